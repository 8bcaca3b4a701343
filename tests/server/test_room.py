"""A worker has room for so many connections, and no more."""

from __future__ import annotations

import resource
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest
from loguru import logger

from httpd.exchange import Request, Response
from httpd.server import listener, room
from httpd.server.connection import Handler
from httpd.server.room import Room
from httpd.traps import in_pool
from tests.daemons import PATIENCE, until
from tests.served import Client, Served, request, settings_of
from tests.server.conftest import Serve

THREE = ("--max-connections=3", "--workers=1")


@contextmanager
def soft_limit(files: int) -> Iterator[None]:
    """Let this process open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answered(client: Client) -> bool:
    """Tell whether there is something to read for it by now."""
    return bool(select.select([client.socket], [], [], 0)[0])


class Held:
    """Answers `/slow` when it is let, and everything else at once."""

    def __init__(self, gate: Event) -> None:
        self.gate = gate
        self.begun = 0

    async def __call__(self, request: Request) -> Response:
        if request.path.startswith("/slow"):
            self.begun += 1
            await in_pool(self.gate.wait, PATIENCE)
        return Response(200, [], request.path.encode())


@pytest.fixture
def held(gate: Event) -> Held:
    return Held(gate)


def occupy(served: Served, held: Held, count: int = 3) -> list[Client]:
    """Take up that many connections with requests that are not answered yet."""
    clients = [served.connect() for _ in range(count)]
    for client in clients:
        client.send(request("/slow"))
    until(lambda: held.begun == count)
    return clients


def test_those_over_the_limit_wait_and_nobody_is_refused(serve: Serve, held: Held) -> None:
    served = serve(held, *THREE)
    busy = occupy(served, held)
    over = [served.connect() for _ in range(50)]
    for client in over:
        client.send(request("/over"))
    for _ in range(10):
        served.catch_up()
        assert served.open_connections() == 3
    assert not any(map(answered, over))
    held.gate.set()
    for client in busy:
        assert client.read_reply().content == b"/slow"
        client.close()
    for client in over:
        assert client.read_reply().content == b"/over"
        client.close()


def test_a_full_worker_is_not_woken_for_others(serve: Serve, held: Held) -> None:
    served = serve(held, *THREE)
    occupy(served, held)
    turns: list[None] = []
    served.call(lambda: served.loop.after_turn.append(lambda: turns.append(None)))
    before = len(turns)
    over = [served.connect() for _ in range(20)]
    served.catch_up()
    assert len(turns) - before < 10  # of its own: the calls, and the look after the idle ones
    held.gate.set()
    for client in over:
        client.close()


def test_the_longest_idle_makes_room(
    serve: Serve, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LEAST_IDLE_SECONDS", 0.0)
    monkeypatch.setattr(room, "LEAVE_AT_ONCE", 1)
    served = serve(held, *THREE)
    (busy,) = occupy(served, held, 1)
    oldest, younger = served.connect(), served.connect()
    oldest.ask(request("/oldest"))
    served.next_turn()  # those that are answered in the same one have been idle for as long
    younger.ask(request("/younger"))
    assert served.ask(request("/new")).content == b"/new"
    assert oldest.read_to_end() == b""
    assert younger.ask(request("/again")).content == b"/again"
    held.gate.set()
    assert busy.read_reply().content == b"/slow"


def test_nobody_makes_room_for_nobody(
    serve: Serve, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LEAST_IDLE_SECONDS", 0.0)
    looks: list[bool] = []
    look = listener._is_somebody_waiting
    monkeypatch.setattr(
        listener, "_is_somebody_waiting", lambda each: looks.append(look(each)) or looks[-1]
    )
    served = serve(held, *THREE)
    clients = [served.connect() for _ in range(3)]
    for client in clients:
        client.ask(request())
    until(lambda: len(looks) == 3)
    assert looks == [False] * 3
    assert [client.ask(request("/still")).content for client in clients] == [b"/still"] * 3


def test_who_has_just_come_is_not_sent_away(serve: Serve, held: Held) -> None:
    served = serve(held, *THREE)
    fresh = [served.connect() for _ in range(3)]
    for client in fresh:
        client.ask(request())
    over = served.connect()
    over.send(request("/over"))
    for client in fresh:
        assert client.ask(request("/again")).content == b"/again"
    assert over.read_reply().content == b"/over"  # in a second, when one of them has become idle


def test_a_request_that_has_just_come_is_answered(
    serve: Serve, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve(held, *THREE)
    client = served.connect()
    client.ask(request())

    def send_and_leave() -> None:  # within one turn: the loop learns of the request afterwards
        client.send(request("/just"))
        (connection,) = served.server.connections
        connection.leave()

    served.call(send_and_leave)
    assert client.read_reply().content == b"/just"
    assert client.ask(request("/again")).content == b"/again"


def test_a_full_worker_can_be_drained(serve: Serve, held: Held) -> None:
    served = serve(held, *THREE)
    busy = occupy(served, held)
    over = served.connect()
    over.send(request("/over"))
    served.call(lambda: served.server.drain(now=True))
    held.gate.set()
    for client in busy:
        assert client.read_reply().closes
    served.until_ended()
    assert over.read_what_comes() == b""


def test_each_worker_has_its_share(tmp_path: Path) -> None:
    def share(*flags: str) -> int:
        return Room(settings_of(tmp_path, *flags)).most

    with soft_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        assert share("--max-connections=100", "--workers=1") == 100
        assert share("--max-connections=100", "--workers=3") == 34
        assert share("--max-connections=1", "--workers=4") == 1


def test_descriptors_are_left_for_files(tmp_path: Path) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="INFO", format="{message}")
    with soft_limit(500):
        assert Room(settings_of(tmp_path, "--workers=1", "--threads=1")).most == 230
        assert Room(settings_of(tmp_path, *THREE)).most == 3
    with soft_limit(70):
        assert Room(settings_of(tmp_path, "--threads=100")).most == 1
    logger.remove(sink)
    assert [str(each).split(":")[0] for each in said] == [
        "a worker has 230 connections at most, not 16384",
        said[1].split(":")[0],
    ]


# ---- requests on one connection


@pytest.mark.parametrize("lasts", [True, False])
def test_a_connection_ends_with_its_last_request(serve: Serve, *, lasts: bool) -> None:
    async def same(_request: Request) -> Response:
        return Response(200, [], b"the same", lasts=(lambda: True) if lasts else None)

    served = serve(same, "--max-requests=3")
    client = served.connect()
    assert [client.ask(request()).closes for _ in range(3)] == [False, False, True]
    assert client.read_to_end() == b""


def test_pipelined_requests_beyond_the_last_are_not_answered(serve: Serve, echo: Handler) -> None:
    client = serve(echo, "--max-requests=2").connect()
    client.send(b"".join(request(f"/{number}") for number in range(5)))
    replies = [client.read_reply() for _ in range(2)]
    assert [reply.content for reply in replies] == [b"GET /0 ", b"GET /1 "]
    assert [reply.closes for reply in replies] == [False, True]
    assert client.read_to_end() == b""


def test_without_a_limit_a_connection_goes_on(serve: Serve, echo: Handler) -> None:
    client = serve(echo, "--max-requests=0").connect()
    assert not any(client.ask(request()).closes for _ in range(100))


# ---- memory


def test_a_request_that_there_is_no_memory_for_is_refused(serve: Serve) -> None:
    async def greedy(request: Request) -> Response:
        size = 1 << 62 if request.path == "/greedy" else 1
        return Response(200, [], bytes(size))

    served = serve(greedy)
    client = served.connect()
    reply = client.ask(request("/greedy"))
    assert (reply.status, reply.closes) == (503, True)
    assert reply.content == b"out of memory; try again\n"
    assert client.read_to_end() == b""
    assert served.ask(request("/")).status == 200
    assert served.forgive() == "a request is refused: out of memory\n"


def test_a_connection_that_there_is_no_memory_for_is_broken_off(serve: Serve) -> None:
    class Vast(bytes):
        """More than any answer can be put into."""

        def __radd__(self, other: bytes) -> bytes:
            return bytes(1 << 62)

    async def vast(request: Request) -> Response:
        return Response(200, [], Vast() if request.path == "/vast" else b"")

    served = serve(vast)
    assert served.connect().ask(request("/")).status == 200
    client = served.connect()
    client.send(request("/vast"))
    assert client.read_to_end() == b""
    assert served.ask(request("/")).status == 200
    assert served.forgive() == "a connection is broken off: out of memory\n"
