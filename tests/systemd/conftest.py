from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.systemd.machines import Machine

NEEDED = ("systemctl", "unshare", "nsenter", "ip", "pgrep", "curl")


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that runs, with the project in it."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or not os.path.exists("/lib/systemd/systemd"):
        pytest.skip(f"needs systemd, util-linux, iproute2, procps and curl: {missing}")
    machine = Machine(tmp_path_factory.mktemp("machine"))
    try:
        machine.install_project()
        machine.start()
        yield machine
    finally:
        machine.remove()


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """The machine, in which nothing is left afterwards of what a test has installed."""
    before = leftovers(booted)
    yield booted
    for name in ("filestored", "other"):
        done = booted.setup("--uninstall", "--purge", "--service_name", name)
        assert done.returncode == 0, done.stderr
    assert leftovers(booted) == before


def leftovers(machine: Machine) -> set[str]:
    """Return what there is of units, folders, users and processes."""
    places = ["/etc/systemd/system", "/var/lib", "/var/log", "/run", "/etc/default"]
    found = machine.do("find", *places, "-maxdepth", "2", "-not", "-path", "/run/systemd/*")
    units = machine.do(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "file*", "oth*"
    )
    users = machine.do("cat", "/etc/passwd", "/etc/group")
    processes = machine.ask("pgrep", "-a", "-f", "main.py").stdout
    lines = f"{found}\n{units}\n{users}\n{processes}".splitlines()
    return {line for line in lines if "filestored" in line or "other" in line or "main.py" in line}
