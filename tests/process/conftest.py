from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.process.stubs import StubDaemon


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter; only root may enter those that pytest makes for it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StubDaemon]:
    """Make a stub daemon that is not started yet, and see to it that nothing is left of it."""
    daemon = StubDaemon(tmp_path)
    yield daemon
    daemon.order("go")
    daemon.end()
    assert not daemon.pidfile.exists()
    assert not daemon.pidfile.with_name("pid.opts").exists()
    assert not daemon.pidfile.with_name("pid.sock").exists()
