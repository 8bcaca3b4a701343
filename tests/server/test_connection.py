from __future__ import annotations

import socket
from pathlib import Path

import pytest

from httpd.exchange import Refusal, Request, Response
from httpd.server.connection import Handler
from tests.served import Client, listen_unix, request
from tests.server.conftest import Serve

# How a request's version and Connection field decide (RFC 9112 section 9.3), and what is answered.
PERSISTENCE = [
    ("1.1", [], True, None),
    ("1.1", ["Connection: close"], False, "close"),
    ("1.1", ["Connection: Keep-Alive, CLOSE"], False, "close"),
    ("1.0", [], False, "close"),
    ("1.0", ["Connection: keep-alive"], True, "keep-alive"),
]


@pytest.mark.parametrize(("version", "fields", "kept", "answered"), PERSISTENCE)
def test_a_connection_is_kept_as_the_client_wishes(
    serve: Serve,
    echo: Handler,
    version: str,
    fields: list[str],
    answered: str | None,
    *,
    kept: bool,
) -> None:
    client = serve(echo).connect()
    reply = client.ask(request("/one", *fields, version=version))
    assert (reply.status, reply.content) == (200, b"GET /one ")
    assert reply.fields.get("connection") == answered
    if kept:
        assert client.ask(request("/two", *fields, version=version)).content == b"GET /two "
    else:
        assert client.read_to_end() == b""


def test_every_response_has_the_servers_fields(serve: Serve, echo: Handler) -> None:
    fields = serve(echo).ask(request()).fields
    assert fields["server"] == "filestored"
    assert fields["date"].endswith(" GMT")
    assert fields["content-length"] == "6"


def test_a_unix_socket_is_served_alike(serve: Serve, echo: Handler, tmp_path: Path) -> None:
    served = serve(echo, listener=listen_unix(tmp_path / "socket"))
    assert served.ask(request("/one")).content == b"GET /one "
    served.catch_up()
    assert served.lines[0].startswith("unix: - - [")


def test_pipelined_requests_are_answered_in_their_order(serve: Serve, echo: Handler) -> None:
    client = serve(echo).connect()
    client.send(
        request("/1")
        + request("/2", method="POST", content=b"within")
        + request("/3", "Transfer-Encoding: chunked", method="POST")
        + b"3\r\nchu\r\n3\r\nnks\r\n0\r\n\r\n"
        + b"\r\n"  # an empty line before a request is passed over (RFC 9112 section 2.2)
        + request("/4")
    )
    assert [client.read_reply().content for _ in range(4)] == [
        b"GET /1 ",
        b"POST /2 within",
        b"POST /3 chunks",
        b"GET /4 ",
    ]


def test_a_client_may_end_its_side_and_read_all_its_responses(serve: Serve, echo: Handler) -> None:
    client = serve(echo).connect()
    client.send(request("/1") + request("/2"))
    client.half_close()
    assert [client.read_reply().content for _ in range(2)] == [b"GET /1 ", b"GET /2 "]
    assert client.read_to_end() == b""


EXCHANGE = request("/up", method="POST", content=b"four") + request("/down")


def check_exchange(client: Client) -> None:
    assert client.read_reply().content == b"POST /up four"
    assert client.read_reply().content == b"GET /down "


def test_every_split_of_requests_in_two_is_the_same(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    client = served.connect()
    for index in range(1, len(EXCHANGE)):
        client.send(EXCHANGE[:index])
        served.catch_up()
        client.send(EXCHANGE[index:])
        check_exchange(client)


def test_requests_may_come_byte_by_byte(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    client = served.connect()
    for index in range(len(EXCHANGE)):
        client.send(EXCHANGE[index : index + 1])
        served.catch_up()
    check_exchange(client)


def test_the_head_of_a_response_to_head_comes_alone(serve: Serve, echo: Handler) -> None:
    client = serve(echo).connect()
    client.send(request("/x", method="HEAD") + request("/y"))
    head = client.read_reply("HEAD")
    assert (head.status, head.fields["content-length"]) == (200, "8")
    assert client.read_reply().content == b"GET /y "


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost", 400),  # the client's end within the head
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nfour", 400),  # and the content
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /a%2Fb HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nbad\n", 400),
    ],
)
def test_what_cannot_be_served_is_refused_and_closed(
    serve: Serve, echo: Handler, sent: bytes, status: int
) -> None:
    served = serve(echo)
    client = served.connect()
    client.send(sent)
    client.half_close()
    reply = client.read_reply()
    assert (reply.status, reply.closes) == (status, True)
    assert client.read_to_end() == b""
    served.catch_up()
    assert [line.split('"')[2].split()[0] for line in served.lines] == [str(status)]


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r"])
def test_a_client_that_leaves_before_its_request_is_told_nothing(
    serve: Serve, echo: Handler, sent: bytes
) -> None:
    served = serve(echo)
    client = served.connect()
    assert client.ask(request()).status == 200
    client.send(sent)
    served.catch_up()
    client.half_close()
    assert client.read_to_end() == b""
    served.catch_up()
    assert len(served.lines) == 1


def test_a_handler_that_fails_is_answered_for_and_logged(serve: Serve) -> None:
    async def fail(_request: Request) -> Response:
        raise KeyError("a fault of ours")

    served = serve(fail)
    client = served.connect()
    for _ in range(2):  # the connection and the daemon go on
        reply = client.ask(request())
        assert (reply.status, reply.closes) == (500, False)
        assert b"fault" not in reply.content
        assert "KeyError: 'a fault of ours'" in served.forgive()


async def refuse(request: Request) -> Response:
    raise Refusal(405, "not so", [("Allow", "GET")], close=request.path == "/close")


@pytest.mark.parametrize(
    ("accept", "kind", "content"),
    [
        ([], "text/plain; charset=utf-8", b"not so\n"),
        (["Accept: */*"], "text/plain; charset=utf-8", b"not so\n"),
        (
            ["Accept: application/json"],
            "application/problem+json",
            b'{"type": "about:blank", "title": "Method Not Allowed", "status": 405, '
            b'"detail": "not so", "request_id": "a-1"}\n',
        ),
    ],
)
def test_a_refusal_is_text_or_a_problem_as_the_client_accepts(
    serve: Serve, accept: list[str], kind: str, content: bytes
) -> None:
    reply = serve(refuse).ask(request("/", "X-Request-Id: a-1", *accept))
    assert (reply.status, reply.fields["allow"], reply.closes) == (405, "GET", False)
    assert (reply.fields["content-type"], reply.content) == (kind, content)


def test_a_refusal_may_end_the_connection(serve: Serve) -> None:
    client = serve(refuse).connect()
    assert client.ask(request("/close")).closes
    assert client.read_to_end() == b""


def test_many_clients_are_served_at_the_same_time(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    clients = [served.connect() for _ in range(100)]  # more than are accepted in a turn
    for number, client in enumerate(clients):
        client.send(request(f"/{number}"))
    for number, client in reversed(list(enumerate(clients))):
        assert client.read_reply().content == b"GET /%d " % number


def test_the_client_is_known_by_its_address(serve: Serve) -> None:
    async def who(request: Request) -> Response:
        return Response(200, [], request.peer.encode())

    served = serve(who)
    assert served.ask(request()).content == b"127.0.0.1"
    served.catch_up()
    assert served.lines[0].startswith("127.0.0.1 - - [")


def test_a_client_may_go_at_any_time(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    for index in range(0, len(EXCHANGE), 5):
        client = served.connect()
        client.send(EXCHANGE[:index])
        served.catch_up()
        client.abort()
    served.until_alone()
    assert served.ask(request("/x")).content == b"GET /x "


def test_small_segments_are_not_held_back(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    served.connect().ask(request())
    (connection,) = served.call(lambda: list(served.server.connections))
    accepted = connection._transport._socket
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not accepted.getblocking()
