"""Reloads and restarts of the whole daemon under load: no request is lost, no byte is wrong."""

from __future__ import annotations

import hashlib
import os
import signal
import socket

import pytest

from httpd.process import proc
from tests.daemons import Daemon, until
from tests.load import Load
from tests.service import Service, blobs_in

MIB = 1 << 20


def reload_and_restart(daemon: Daemon, rounds: int) -> None:
    daemon.start("--idle-timeout=5")
    with Load(daemon.url) as load:
        for _ in range(rounds):
            assert daemon.command("reload").returncode == 0
            before = daemon.pid
            daemon.start(command="restart")
            assert daemon.pid != before
    tally = load.tally()
    assert tally.failures == []
    assert tally.requests > 50 * rounds
    assert blobs_in(daemon.store) == set()


def test_reload_and_restart_under_load(daemon: Daemon) -> None:
    reload_and_restart(daemon, 1)


@pytest.mark.long
def test_many_reloads_and_restarts_under_load(daemon: Daemon) -> None:
    reload_and_restart(daemon, 20)


@pytest.mark.parametrize("command", ["reload", "restart"])
def test_long_download_is_finished(command: str, daemon: Daemon) -> None:
    """However long it takes: the deadlines are those of its own pace."""
    daemon.start("--idle-timeout=0.1", "--drain-timeout=0")
    content = os.urandom(32 * MIB)
    with Service(daemon) as service:
        digest = service.post("/", data=content).text
    with daemon.connect() as client:
        client.sendall(f"GET /?file_hash={digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        beginning = client.recv(64)
        assert beginning.startswith(b"HTTP/1.1 200 ")
        old = daemon.workers()
        assert daemon.command(command).returncode == 0
        until(lambda: sum(map(alive, old)) == 1, "the other worker leaves")
        rest = b"".join(iter(lambda: client.recv(MIB), b""))
    assert hashlib.md5((beginning + rest).partition(b"\r\n\r\n")[2]).hexdigest() == digest
    until(lambda: not any(map(alive, old)))


def alive(pid: int) -> bool:
    return proc.stat(pid) is not None


@pytest.mark.long
@pytest.mark.parametrize("command", ["reload", "restart"])
def test_kept_connection_is_told_to_go_elsewhere(command: str, daemon: Daemon) -> None:
    daemon.start()
    with daemon.connect() as kept:
        assert b"keep-alive" not in ask(kept)
        assert daemon.command(command).returncode == 0
        assert b"Connection: close" in ask(kept)  # by the old worker, which has waited for it
        assert kept.recv(64) == b""


def ask(connection: socket.socket) -> bytes:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    return connection.recv(4096)


def test_stop_of_a_daemon_that_has_nothing_to_do_ends_what_waits(daemon: Daemon) -> None:
    daemon.start()
    with daemon.connect() as kept:
        ask(kept)
        daemon.signal(signal.SIGTERM)
        assert kept.recv(64) == b""
        until(daemon.gone)
