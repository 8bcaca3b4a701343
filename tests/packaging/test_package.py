"""What pip installs: two commands that work without the folder they came from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd import config
from tests.daemons import ANNOUNCEMENT, PATIENCE, PROJECT

META = tomllib.loads((PROJECT / "pyproject.toml").read_text())
LEFT_OUT = shutil.ignore_patterns(
    ".*", "store", "log", "tests", "__pycache__", "*.egg-info", "build"
)
FILES = {"share/man/man1/filestored.1", "share/bash-completion/completions/filestored-send"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "filestored"
    shutil.copytree(PROJECT, folder, ignore=LEFT_OUT)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(source)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but the package; its dependencies are borrowed from here."""
    folder = tmp_path_factory.mktemp("a folder") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", f"--python={folder}/bin/python", "install", "--quiet",
         "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def command(
    installed: Path, home: Path, *line: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    name, *arguments = line
    env = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [str(installed / "bin" / name), *arguments],
        cwd=cwd or home, env=env, capture_output=True, text=True, timeout=PATIENCE * 3, check=False,
    )  # fmt: skip


def test_version_and_requirements_are_said_once() -> None:
    project = META["project"]
    assert project["version"] == config.VERSION
    required = {
        line.strip() for line in (PROJECT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }  # fmt: skip
    extras = project["optional-dependencies"]
    told = {*project["dependencies"], *extras["postgresql"], *extras["test"]}
    assert told == required


def test_wheel_has_what_belongs_in_it_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    version = f"filestored-{config.VERSION}"
    assert tops == {"httpd", "sender.py", f"{version}.dist-info", f"{version}.data"}
    assert "httpd/app/page.html" in names
    modules = {str(path.relative_to(PROJECT)) for path in (PROJECT / "httpd").rglob("*.py")}
    assert {name for name in names if name.startswith("httpd/")} == {
        *modules, "httpd/app/page.html", "httpd/process/unit.service", "httpd/process/unit.socket",
    }  # fmt: skip
    assert {f"{version}.data/data/{name}" for name in FILES} <= set(names)


@pytest.fixture
def home(installed: Path, tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    command(installed, tmp_path, "filestored", "stop", f"--pidfile={tmp_path}/pid")


def test_installed_commands_serve_and_send(installed: Path, home: Path) -> None:
    flags = [f"--{name}={home}/{name}" for name in ("store", "log-dir")]
    flags += [f"--pidfile={home}/pid", "--port=0", "--host=127.0.0.1", "--workers=1"]
    started = command(installed, home, "filestored", "start", *flags)
    assert started.returncode == 0, started.stderr
    found = ANNOUNCEMENT.search(started.stdout)
    assert found
    port = found[1].rpartition(":")[2]
    (home / "a.txt").write_text("hello")
    sent = command(installed, home, "filestored-send", f"--port={port}", "--url=/", "a.txt")
    assert sent.stdout == "5d41402abc4b2a76b9719d911017c592\n"
    assert (home / "store" / "5d" / "5d41402abc4b2a76b9719d911017c592").read_text() == "hello"
    told = command(installed, home, "filestored", "status", f"--pidfile={home}/pid")
    assert "filestored 0.1.0 runs" in told.stdout


def test_installed_command_calls_itself_by_its_name(installed: Path, home: Path) -> None:
    told = command(installed, home, "filestored", "--help").stdout
    assert told.startswith("usage: filestored [command]")
    assert "main.py" not in told.replace("beside main.py", "")


def test_where_an_installed_daemon_keeps_its_files(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.installed_home() == Path("/var/lib/filestored")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert config.installed_home() == Path("/data/filestored")
    for unset in ("", "relative"):  # the specification says that such a value is no value
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        monkeypatch.setenv("HOME", str(home))
        assert config.installed_home() == home / ".local/share/filestored"


def test_installed_daemon_makes_its_folder(tmp_path: Path) -> None:
    """As for a user who has just typed pip install, then `filestored start`, and no more."""
    folder = tmp_path / "data" / "filestored"
    code = "import sys; from pathlib import Path; from httpd.process.control import main; "
    code += f"sys.exit(main(sys.argv[1:], Path({str(folder)!r})))"

    def run(*line: str) -> subprocess.CompletedProcess[str]:
        env = {"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"]}
        return subprocess.run(
            [sys.executable, "-c", code, *line], cwd=tmp_path, env=env, text=True,
            capture_output=True, timeout=PATIENCE * 3, check=False,
        )  # fmt: skip

    started = run("start", "--port=0", "--host=127.0.0.1", "--workers=1")
    try:
        assert started.returncode == 0, started.stderr
        assert {
            *("filestored.pid", "filestored.pid.opts", "filestored.pid.sock", "log", "store")
        } == set(os.listdir(folder))
    finally:
        stopped = run("stop")
    assert stopped.stdout.startswith("filestored stopped")


def test_source_archive_can_be_built_from(source: Path, tmp_path: Path) -> None:
    code = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True
    )
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"packaging/man/filestored.1", "httpd/app/page.html", "sender.py", "LICENSE"} <= names
