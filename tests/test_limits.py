"""Every limit of the options, met by a client of a real daemon, and what it is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from socket import socket

import pytest

from tests import raw
from tests.daemons import Daemon, until
from tests.raw import head, post
from tests.service import blobs_in

SIZES = ("--max-head=1K", "--max-target=100", "--max-fields=10", "--max-body=1000")
TIMES = ("--head-timeout=0.3", "--body-timeout=0.3", "--min-rate=100K")
SAME = "a" * 32
CHUNKED = head("POST /", "Transfer-Encoding: chunked")
LONG = head("POST /", "Content-Length: 1000")

# What each of them meets: bytes that are sent, the status, and what the reason must name.
MET: dict[str, tuple[bytes, int, bytes]] = {
    "head size": (head("GET /healthz", f"A: {'a' * 1000}"), 431, b"head"),
    "head size, unfinished": (b"GET / HTTP/1.1\r\nA: " + b"a" * 1024, 431, b"head"),
    "target length": (head(f"GET /{'a' * 100}"), 414, b"target"),
    "target length, unfinished": (b"GET /" + b"a" * 100, 414, b"target"),
    "field count": (head("GET /healthz", *["A: a"] * 10), 431, b"field lines"),
    "content": (post(b"a" * 1001), 413, b"1000 bytes"),
    "content, declared": (head("POST /", "Content-Length: 1001"), 413, b"1000 bytes"),
    "content, chunked": (CHUNKED + b"3e9\r\n" + b"a" * 1001, 413, b"1000 bytes"),
    "content, many chunks": (CHUNKED + b"1\r\na\r\n" * 1001, 413, b"1000 bytes"),
    "head time": (b"GET / HT", 408, b"head"),
    "pause in content": (LONG + b"a", 408, b"content"),
    "pause in chunks": (CHUNKED + b"2\r\na", 408, b"content"),
}


@pytest.mark.parametrize(("sent", "status", "reason"), MET.values(), ids=MET)
def test_what_each_limit_is_told(sent: bytes, status: int, reason: bytes, strict: Daemon) -> None:
    with strict.connect() as client:
        client.sendall(sent)  # and nothing after it, nor an end
        received = b""
        while b"\r\n\r\n" not in received or not received.endswith(b"\n"):
            received += client.recv(4096)
        answer = raw.answer_in(received)
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    assert reason in answer.content
    until(lambda: not strict.staged())
    assert blobs_in(strict.store) == set()


def test_what_is_within_every_limit_is_served(strict: Daemon) -> None:
    line = f"GET /?file_hash={SAME}&name={'n' * (100 - 50)}"
    assert raw.ask(strict.connect(), head(line, *["A: a"] * 9)).status == 404
    assert raw.ask(strict.connect(), raw.chunked(b"a" * 1000)).status == 200
    assert raw.ask(strict.connect(), post(b"b" * 1000)).status == 200


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with narrow limits."""
    daemon = Daemon(tmp_path_factory.mktemp("strict"))
    try:
        yield daemon.start(*SIZES, *TIMES)
    finally:
        daemon.end()


@pytest.fixture(autouse=True)
def _nothing_stored(strict: Daemon) -> None:
    for file in strict.store.glob("??/*"):
        file.unlink()


# ---- connections


def ask_on(client: socket) -> raw.Answer:
    """Ask on a connection that stays open, and return the answer."""
    client.sendall(head("GET /healthz"))
    received = client.recv(4096)
    while not received.endswith(b"\n"):
        received += client.recv(4096)
    return raw.answer_in(received)


def test_a_client_has_so_many_connections_with_all_workers_together(daemon: Daemon) -> None:
    daemon.start("--workers=3", "--max-connections-per-client=20")
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(40)]
        answers = [ask_on(client) for client in clients]
        assert [answer.status for answer in answers].count(200) == 20
        refused = next(answer for answer in answers if answer.status == 429)
        assert (refused.fields["retry-after"], refused.fields["connection"]) == ("1", "close")
        assert refused.content == b"too many connections from this address\n"
    until(lambda: raw.ask(daemon.connect(), head("GET /healthz")).status == 200)
    assert "127.0.0.1 has more than 20 connections" in daemon.life_log()


def test_connections_of_a_worker_that_was_killed_count_no_more(daemon: Daemon) -> None:
    daemon.start("--workers=2", "--max-connections-per-client=5")
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(5)]
        assert [ask_on(client).status for client in clients] == [200] * 5
        before = daemon.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(daemon.workers() - before) == 2)
        clients = [stack.enter_context(daemon.connect()) for _ in range(6)]
        assert [ask_on(client).status for client in clients].count(200) == 5


def test_a_reload_does_not_double_what_a_client_may_have(daemon: Daemon) -> None:
    daemon.start("--workers=2", "--max-connections-per-client=5")
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(5)]
        assert [ask_on(client).status for client in clients] == [200] * 5
        assert daemon.command("reload").returncode == 0
        assert ask_on(stack.enter_context(daemon.connect())).status == 429
        assert ask_on(clients[0]).status == 200  # by the worker that leaves


def test_more_connections_than_all_workers_take_wait_for_each_other(daemon: Daemon) -> None:
    daemon.start("--workers=2", "--max-connections=10")
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect()) for _ in range(60)]
        for client in clients:
            client.sendall(head("GET /healthz", "Connection: close"))
        for client in clients:
            assert raw.answer_in(raw.receive_all(client)).status == 200


def test_one_client_cannot_take_everything(daemon: Daemon) -> None:
    daemon.start("--max-connections=60", "--max-connections-per-client=20", "--head-timeout=1000")
    with ExitStack() as stack:
        for _ in range(300):
            hostile = stack.enter_context(socket())
            hostile.settimeout(20)
            hostile.bind(("127.0.0.2", 0))
            hostile.connect(("127.0.0.1", daemon.port))
            with suppress(ConnectionError):
                hostile.sendall(b"GET / HTTP/1.1\r\nA: ")  # and never any more
        assert raw.ask(daemon.connect(), post(b"served")).status == 200
        assert raw.ask(daemon.connect(), head("GET /healthz")).status == 200


def test_nobody_is_sent_away_while_another_worker_has_room(daemon: Daemon) -> None:
    daemon.start("--workers=2", "--max-connections=60")
    with ExitStack() as stack:
        # One after the other they all come to the same worker, as long as it has room.
        clients = [stack.enter_context(daemon.connect()) for _ in range(50)]
        assert [ask_on(client).status for client in clients] == [200] * 50
        time.sleep(1.5)  # now all of them have been idle for long enough
        for _ in range(20):
            assert raw.ask(daemon.connect(), head("GET /healthz")).status == 200
        assert [ask_on(client).status for client in clients] == [200] * 50
