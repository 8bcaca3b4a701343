from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import PROJECT
from tests.docker.engine import APART, LONGEST, Engine

NEEDED = ("dockerd", "docker", "docker-compose", "debootstrap")
# A root file system that stands in for the image that FROM names.
PACKAGES = "python3,python3-venv,ca-certificates"
IGNORED = shutil.ignore_patterns(".venv", ".git", "store", "log", "__pycache__", ".*_cache")
BASE = "filestored-test-base"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [program for program in NEEDED if shutil.which(program) is None]
    for item in items:
        if missing and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine(Path(tempfile.mkdtemp(prefix="dockerd"))) as engine:
        yield engine


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """The name of an image with Debian and its Python."""
    folder = Path(tempfile.mkdtemp(prefix="debian"))
    try:
        own = ["--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)]
        run(*APART, "debootstrap", *own)
        with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["docker", "import", "-", BASE], stdin=tar.stdout, env=engine.env, check=True,
                capture_output=True, timeout=LONGEST,
            )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    return BASE


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the project, with the wheels that a build there needs: it has no network."""
    folder = tmp_path_factory.mktemp("context") / "filestored"
    shutil.copytree(PROJECT, folder, ignore=IGNORED)
    meta = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    project = meta["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--python-version=3.11", "--only-binary=:all:", f"--dest={folder}/wheelhouse",
        *meta["build-system"]["requires"], *needed,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def image(engine: Engine, base: str, context: Path) -> str:
    """The name of the image that the Dockerfile makes."""
    arguments = ["--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1"]
    engine("build", "--network=none", *arguments, "--tag=filestored", str(context))
    return "filestored"


def run(*line: str) -> None:
    """Run a command to its end, and tell what it has said if it fails."""
    done = subprocess.run(line, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
