from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.process import proc
from tests.daemons import until


@pytest.fixture
def child() -> Iterator[int]:
    """A process that waits, with a name made to confuse whoever splits its line."""
    pid = os.fork()
    if pid == 0:
        try:
            Path("/proc/self/comm").write_text(") Z 1 (")
            signal.pause()
        finally:
            os._exit(0)
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == ") Z 1 (\n")
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_living_process(child: int) -> None:
    status = proc.stat(child)
    assert status is not None
    assert status.state in "RS"
    assert status.parent == os.getpid()
    assert child in proc.children(os.getpid())
    assert 0 <= proc.age(child) <= proc.age(os.getpid())


def test_zombie_is_gone(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{child}").exists()
    assert proc.stat(child) is None
    assert child not in proc.children(os.getpid())
    assert proc.age(child) == 0
