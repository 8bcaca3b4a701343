from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.attempt import add_witness
from tests.crash.stand import Stand
from tests.crash.tally import tally

# Debian's package of each program that the suite needs.
NEEDED = {"strace": "strace", "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "losetup": "mount"}


def lacking() -> str:
    """Say why the suite cannot run here; "" if it can."""
    if os.geteuid() != 0:
        return "needs root"
    packages = [NEEDED[program] for program in NEEDED if not shutil.which(program)]
    return f"needs the packages {', '.join(packages)}" if packages else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = lacking()
    for item in items:
        if item.get_closest_marker("crash") and reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode
) -> None:
    if not tally:
        return
    terminalreporter.section("crashes")
    for what, number in tally.items():
        terminalreporter.write_line(f"{number:7,} {what}")
    if exitstatus == pytest.ExitCode.OK:
        terminalreporter.write_line("Nothing that was acknowledged was lost.")
    else:
        terminalreporter.write_line("The suite has FAILED: see above.")


@pytest.fixture
def cuts(request: pytest.FixtureRequest) -> int:
    """How many power cuts each kind of store is given."""
    return int(request.config.getoption("--cuts"))


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Stand]:
    """A daemon of one worker with one thread in its pool: it does one thing after the other."""
    flags = ("--workers=1", "--threads=1")
    with closing(Stand(tmp_path, tmp_path / "store", *flags)) as stand:
        stand.start()
        add_witness(stand)
        yield stand
