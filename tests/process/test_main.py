"""main.py itself, with the workers that it really has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


def test_main_starts_and_stops_the_whole_daemon(daemon: Daemon) -> None:
    daemon.start()
    assert len(daemon.workers()) == 2
    with daemon.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 200 ")
    daemon.stop()
    assert daemon.gone()
    assert "filestored has stopped" in daemon.life_log()
