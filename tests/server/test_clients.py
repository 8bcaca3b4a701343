"""Who a client is taken for, and how many connections it may have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from loguru import logger

from httpd.exchange import Request, Response
from httpd.protocol.forwarded import Forwarding
from httpd.server.clients import Clients
from httpd.server.connection import Handler
from httpd.server.tally import Tally
from httpd.traps import in_pool
from tests.daemons import PATIENCE, until
from tests.served import Served, listen_unix, request, settings_of
from tests.server.conftest import Serve

HERE = "127.0.0.1"
TRUSTED = f"--trusted-proxy={HERE},10.0.0.0/8,unix:"


def from_client(value: str, target: str = "/") -> bytes:
    return request(target, f"X-Forwarded-For: {value}")


@pytest.fixture
def peer() -> Handler:
    """Return a handler that tells who has asked."""

    async def peer(request: Request) -> Response:
        return Response(200, [], request.peer.encode())

    return peer


# ---- whose word counts


def test_a_trusted_proxy_is_believed_request_by_request(serve: Serve, peer: Handler) -> None:
    served = serve(peer, TRUSTED)
    client = served.connect()
    asked = [
        from_client("192.0.2.1"),
        request(),
        request("/", 'Forwarded: for="[2001:db8::1]:4711"'),
        from_client("6.6.6.6, nonsense"),
        from_client("192.0.2.2, 10.1.2.3"),
    ]
    told = ["192.0.2.1", HERE, "2001:db8::1", HERE, "192.0.2.2"]
    assert [client.ask(each).content.decode() for each in asked] == told
    served.catch_up()
    assert [line.split()[0] for line in served.lines] == told


def test_nobody_else_is_believed(serve: Serve, peer: Handler) -> None:
    served = serve(peer, "--trusted-proxy=10.0.0.0/8")
    for field in ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"):
        assert served.ask(request("/", field)).content.decode() == HERE
    served.catch_up()
    assert {line.split()[0] for line in served.lines} == {HERE}


@pytest.mark.parametrize("flags", [(), (TRUSTED,)])
def test_a_unix_socket_has_no_address(
    serve: Serve, peer: Handler, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    served = serve(peer, *flags, listener=listen_unix(tmp_path / "socket"))
    assert served.ask(request()).content == b"unix:"
    told = "192.0.2.1" if flags else "unix:"
    assert served.ask(from_client("192.0.2.1")).content.decode() == told


def test_what_is_answered_from_memory_is_logged_with_its_client(serve: Serve) -> None:
    asked: list[str] = []

    async def same(request: Request) -> Response:
        asked.append(request.peer)
        return Response(200, [], b"the same", lasts=lambda: True)

    served = serve(same, TRUSTED)
    client = served.connect()
    for _ in range(3):
        assert client.ask(from_client("192.0.2.1")).content == b"the same"
    served.catch_up()
    assert asked == ["192.0.2.1"]
    assert [line.split()[0] for line in served.lines] == ["192.0.2.1"] * 3


def test_a_head_that_cannot_be_read_is_the_proxys(serve: Serve, peer: Handler) -> None:
    served = serve(peer, TRUSTED)
    client = served.connect()
    client.ask(from_client("192.0.2.1"))
    assert client.ask(b"nonsense\r\n\r\n").status == 400
    served.catch_up()
    assert [line.split()[0] for line in served.lines] == ["192.0.2.1", HERE]


# ---- connections of one client


def statuses(served: Served, count: int) -> list[int]:
    """Connect as many times, ask on each, and keep all of them open; return the statuses."""
    return [served.ask(request()).status for _ in range(count)]


def test_a_client_over_its_limit_is_told_and_then_not_even_that(
    serve: Serve, peer: Handler
) -> None:
    served = serve(peer, "--max-connections-per-client=3")
    kept = [served.connect() for _ in range(3)]
    for client in kept:
        assert client.ask(request()).status == 200
    told = [served.connect() for _ in range(3)]  # they ask nothing yet
    silent = served.connect()
    assert silent.read_what_comes() == b""
    for client in told:
        reply = client.ask(request("/", method="POST", content=b"x" * 100_000))
        assert (reply.status, reply.closes, reply.fields["retry-after"]) == (429, True, "1")
        client.close()
    until(lambda: served.open_connections() == 3)
    assert kept[0].ask(request()).status == 200
    kept[0].close()
    until(lambda: served.open_connections() == 2)
    assert served.ask(request()).status == 200
    served.catch_up()
    assert [line.split()[8] for line in served.lines].count("429") == 3


def test_refused_connections_end_by_themselves(serve: Serve, peer: Handler) -> None:
    served = serve(peer, "--max-connections-per-client=1", "--head-timeout=0.2")
    kept = served.connect()
    kept.ask(request())
    assert served.connect().read_to_end() == b""  # it has asked nothing
    assert kept.ask(request()).status == 200


def test_nobody_is_limited_by_default(serve: Serve, peer: Handler) -> None:
    served = serve(peer)
    assert statuses(served, 300) == [200] * 300


def test_clients_of_a_unix_socket_are_not_one(serve: Serve, peer: Handler, tmp_path: Path) -> None:
    served = serve(peer, "--max-connections-per-client=1", listener=listen_unix(tmp_path / "s"))
    assert statuses(served, 3) == [200] * 3


class Held:
    """Answers `/slow` when it is let, and everything else at once."""

    def __init__(self, gate: Event) -> None:
        self.gate = gate
        self.begun = 0

    async def __call__(self, request: Request) -> Response:
        if request.path == "/slow":
            self.begun += 1
            await in_pool(self.gate.wait, PATIENCE)
        return Response(200, [], request.peer.encode())


def test_behind_a_proxy_the_requests_under_way_count(serve: Serve, gate: Event) -> None:
    held = Held(gate)
    served = serve(held, TRUSTED, "--max-connections-per-client=2")
    slow = [served.connect() for _ in range(2)]
    for client in slow:
        client.send(from_client("192.0.2.1", "/slow"))
    until(lambda: held.begun == 2)
    other = served.connect()
    reply = other.ask(from_client("192.0.2.1"))
    assert (reply.status, reply.closes) == (429, False)  # others come through it as well
    assert other.ask(from_client("192.0.2.2")).content == b"192.0.2.2"
    assert other.ask(request()).status == 200
    gate.set()
    for client in slow:
        assert client.read_reply().content == b"192.0.2.1"
    assert other.ask(from_client("192.0.2.1")).status == 200
    assert slow[0].ask(from_client("192.0.2.1")).status == 200


def test_who_hides_behind_two_fields_shares_one_part(serve: Serve, gate: Event) -> None:
    held = Held(gate)
    served = serve(held, TRUSTED, "--max-connections-per-client=1")
    both = ("X-Forwarded-For: 192.0.2.1", "Forwarded: for=6.6.6.6")
    slow = served.connect()
    slow.send(request("/slow", *both))
    until(lambda: held.begun == 1)
    other = served.connect()
    assert other.ask(request("/", *both)).status == 429
    assert other.ask(request()).status == 200  # the proxy itself is not limited by that


def test_a_vanished_client_of_a_proxy_counts_no_more(serve: Serve, gate: Event) -> None:
    held = Held(gate)
    served = serve(held, TRUSTED, "--max-connections-per-client=1")
    slow = served.connect()
    slow.send(from_client("192.0.2.1", "/slow"))
    until(lambda: held.begun == 1)
    slow.abort()
    gate.set()
    served.until_alone()
    assert served.ask(from_client("192.0.2.1")).status == 200


# ---- what counts as one client


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally(1)
    tally.claim()
    yield tally
    os.close(tally._file)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_a_network_of_64_bits_is_one_client(
    tmp_path: Path, tally: Tally, first: str, second: str, *, same: bool
) -> None:
    settings = settings_of(tmp_path, "--max-connections-per-client=1")
    clients = Clients(settings, tally, lambda: 0.0)
    visitors = [clients.arrive((each, 1, 0, 0)) for each in (first, second)]
    assert [each is not None and each.admitted for each in visitors] == [True, not same]
    for each in visitors:
        assert each is not None
        each.depart()
    again = clients.arrive((first, 1, 0, 0))
    assert again is not None
    assert again.admitted


def test_the_log_names_who_has_too_many_now_and_then(tmp_path: Path, tally: Tally) -> None:
    now = 1000.0
    clients = Clients(settings_of(tmp_path, "--max-connections-per-client=1"), tally, lambda: now)
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    for _ in range(5):
        clients.arrive(("192.0.2.1", 1))
    now += 60
    clients.arrive(("192.0.2.1", 1))
    logger.remove(sink)
    assert [str(each) for each in said] == ["192.0.2.1 has more than 1 connections\n"] * 2


def test_an_unknown_peer_has_its_own_part(tmp_path: Path, tally: Tally) -> None:
    flags = ["--trusted-proxy=unix:", "--max-connections-per-client=1"]
    clients = Clients(settings_of(tmp_path, *flags), tally, lambda: 0.0)
    visitor = clients.arrive("")
    assert visitor is not None
    visitor.speak_for(Forwarding(None, "nonsense"))
    assert (visitor.name, visitor.admitted) == ("unix:", True)
    visitor.finish()
