"""The end of a worker: whoever has asked is answered."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from httpd.exchange import Request, Response, Span
from httpd.server.connection import Handler
from httpd.traps import in_pool
from tests.daemons import PATIENCE, until
from tests.served import Client, Served, request
from tests.server.conftest import Serve

BOTH = pytest.mark.parametrize("now", [True, False])


def drain(served: Served, *, now: bool) -> None:
    served.call(lambda: served.server.drain(now=now))


class Slow:
    """Answers when it is let."""

    def __init__(self, gate: Event) -> None:
        self.gate = gate
        self.begun = 0

    async def __call__(self, request: Request) -> Response:
        self.begun += 1
        await in_pool(self.gate.wait, PATIENCE)
        return Response(200, [], request.path.encode())


@pytest.fixture
def slow(gate: Event) -> Slow:
    return Slow(gate)


@BOTH
def test_a_server_without_connections_stops_at_once(
    serve: Serve, echo: Handler, *, now: bool
) -> None:
    served = serve(echo)
    drain(served, now=now)
    served.until_ended()
    with pytest.raises(ConnectionRefusedError):
        Client(served.address)


def test_who_is_accepted_last_is_answered_though_the_others_have_left(
    serve: Serve, echo: Handler
) -> None:
    served = serve(echo)

    def drain_with_two_in_the_queue() -> tuple[Client, Client]:
        first, second = served.connect(), served.connect()
        first.send(request("/first"))
        first.until_delivered()
        served.server.drain(now=False)
        return first, second

    first, second = served.call(drain_with_two_in_the_queue)
    assert first.read_reply().closes
    reply = second.ask(request("/second"))
    assert (reply.content, reply.closes) == (b"GET /second ", True)
    served.until_ended()


def test_idle_connections_are_closed_at_once(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    used, unused = served.connect(), served.connect()
    used.ask(request())
    served.catch_up()
    drain(served, now=True)
    assert used.read_to_end() == unused.read_to_end() == b""
    served.until_ended()


def test_idle_connections_may_stay_until_their_next_response(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    clients = [served.connect() for _ in range(3)]
    for client in clients:
        client.ask(request())
    drain(served, now=False)
    for client in clients:
        reply = client.ask(request("/last"))
        assert (reply.content, reply.closes) == (b"GET /last ", True)
        assert client.read_to_end() == b""
    served.until_ended()


def test_a_later_drain_may_be_less_patient(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    client = served.connect()
    client.ask(request())
    drain(served, now=False)
    drain(served, now=True)
    assert client.read_to_end() == b""
    served.until_ended()


@BOTH
def test_a_request_under_way_is_answered_as_the_last(
    serve: Serve, slow: Slow, *, now: bool
) -> None:
    served = serve(slow)
    client = served.connect()
    client.send(request("/one"))
    until(lambda: slow.begun)
    drain(served, now=now)
    slow.gate.set()
    reply = client.read_reply()
    assert (reply.content, reply.closes) == (b"/one", True)
    assert client.read_to_end() == b""
    served.until_ended()


@BOTH
@pytest.mark.parametrize("used", [True, False])
def test_a_request_that_has_just_come_is_answered(
    serve: Serve, echo: Handler, *, now: bool, used: bool
) -> None:
    served = serve(echo)
    client = served.connect()
    if used:
        client.ask(request())
    served.catch_up()

    def send_and_drain() -> None:  # within one turn: the loop learns of the request afterwards
        client.send(request("/just"))
        served.server.drain(now=now)

    served.call(send_and_drain)
    reply = client.read_reply()
    assert (reply.content, reply.closes) == (b"GET /just ", True)
    served.until_ended()


@BOTH
def test_connections_that_wait_to_be_accepted_are_served(
    serve: Serve, echo: Handler, *, now: bool
) -> None:
    served = serve(echo)
    clients: list[Client] = []

    def connect_and_drain() -> None:
        for number in range(150):  # more than are accepted in a turn
            clients.append(served.connect())
            clients[-1].send(request(f"/{number}"))
        served.server.drain(now=now)

    served.call(connect_and_drain)
    for number, client in enumerate(clients):
        reply = client.read_reply()
        assert (reply.content, reply.closes) == (b"GET /%d " % number, True)
    served.until_ended()


@BOTH
def test_a_request_that_is_half_here_is_waited_for(
    serve: Serve, echo: Handler, *, now: bool
) -> None:
    served = serve(echo)
    client = served.connect()
    client.send(request("/half")[:10])
    served.catch_up()
    drain(served, now=now)
    client.send(request("/half")[10:])
    assert client.read_reply().content == b"GET /half "
    served.until_ended()


def test_a_response_under_way_is_sent_whole_and_nothing_awaited_after_it(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 << 20))
    with path.open("rb") as file:

        async def download(_request: Request) -> Response:
            return Response(200, [], (Span(file, 0, 8 << 20),))

        served = serve(download)  # its idle timeout is longer than this test's patience
        client = served.connect(receive_buffer=4096)
        client.send(request())
        status, fields = client.read_lead()
        drain(served, now=True)
        assert (status, "connection" in fields) == (200, False)  # it was announced to stay
        assert client.read(8 << 20) == path.read_bytes()
        assert client.read_to_end() == b""
        served.until_ended()


def test_the_last_of_pipelined_requests_is_not_answered_and_the_first_is(
    serve: Serve, slow: Slow
) -> None:
    served = serve(slow)
    client = served.connect()
    client.send(request("/1") + request("/2"))
    until(lambda: slow.begun)
    drain(served, now=True)
    slow.gate.set()
    reply = client.read_reply()
    assert (reply.content, reply.closes) == (b"/1", True)
    assert client.read_to_end() == b""  # the client knows that it may send the second again
    client.close()
    served.until_ended()
    assert slow.begun == 1
