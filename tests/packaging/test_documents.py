"""The manual pages and completions: up to date, and good for what they are for."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from httpd import config
from tests.daemons import PROJECT

FOLDER = PROJECT / "packaging"


def _documents() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documents", FOLDER / "documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


DOCUMENTS: dict[Path, str] = _documents().documents()
PAGES = [path for path in DOCUMENTS if path.suffix == ".1"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_is_up_to_date(path: Path) -> None:
    assert path.read_text() == DOCUMENTS[path], "run: python packaging/documents.py"


def test_manual_names_every_option_variable_and_command() -> None:
    page = (FOLDER / "man" / "filestored.1").read_text().replace("\\-", "-")
    for key in config.OPTIONS:
        assert f"\\fB{config.flag(key)}\\fR" in page
        assert all(name in page for name in config.variables(key))
    for key in config.EXTRAS.keys() - {"path"}:
        assert f"\\fB{config.flag(key)}\\fR" in page
    for command in config.COMMANDS:
        assert f"\\fB{command}\\fR" in page


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man-db")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_manual_is_rendered_without_a_warning(path: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(path)],
        capture_output=True, text=True, check=True,
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == ""
    assert "OPTIONS" in re.sub(".\b", "", done.stdout)  # bold is a letter over itself


TRY = """
source "$1"
COMP_WORDS=("${@:3}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }  # bash offers it only while it completes in earnest
"$2"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(folder: Path, name: str, *words: str) -> list[str]:
    """Return what bash offers after these words."""
    function = f"_{name.replace('-', '_')}"
    done = subprocess.run(
        ["bash", "-euc", TRY, "bash", str(FOLDER / "bash" / name), function, name, *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return sorted(done.stdout.split("\n"))[1:]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["st"], ["start", "status", "stop"]),
        (["start", "--sto"], ["--store"]),
        (["start", "--hash", "sha"], ["sha1", "sha256", "sha512"]),
        (["start", "--hash", "=", "sha5"], ["sha512"]),
        (["start", "--durability", "="], ["full", "none"]),
        (["start", "--store", ""], ["a folder"]),
        (["start", "--pidfile", "a"], ["a file", "a folder"]),
        (["start", "--port", ""], []),
        (["import", "a"], ["a folder"]),
        (["verify", "--re"], ["--repair"]),
    ],
)
def test_completion_of_the_daemon(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").touch()
    assert complete(tmp_path, "filestored", *words) == offered


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["a"], ["a file"]),
        (["--prot"], ["--protocol"]),
        (["--protocol", "h"], ["http", "https"]),
        (["--quiet", "a"], ["a file"]),
        (["--hash", "=", "b"], ["blake2b"]),
    ],
)
def test_completion_of_the_sender(words: list[str], offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    assert complete(tmp_path, "filestored-send", *words) == offered


def test_bash_completes_in_earnest(tmp_path: Path) -> None:
    """In an interactive bash on a terminal, where a tab is pressed."""
    (tmp_path / "rc").write_text(f"PS1=\nsource {FOLDER / 'bash' / 'filestored'}\n")
    done = subprocess.run(
        ["script", "-qec", f"bash --noprofile --rcfile {tmp_path / 'rc'} -i", "/dev/null"],
        input="filestored() { echo got $*; }\nfilestored get\t --durab\t no\t\nexit\n",
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "got get_pid --durability none" in done.stdout
