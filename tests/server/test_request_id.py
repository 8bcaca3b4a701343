"""X-Request-Id: the client's or ours, in the answer and in every line that is logged."""

from __future__ import annotations

import re
from threading import Event

import pytest
from loguru import logger

from httpd import log
from httpd.exchange import Refusal, Request, Response
from httpd.server.connection import Handler
from httpd.server.request_id import has_id, without_id
from httpd.traps import in_pool
from tests.served import Served, request
from tests.server.conftest import Serve

OURS = re.compile(r"[0-9a-f]{12}-[0-9]+-[0-9]+")
SANE = ["abc", "1-67891233-abcdef012345678912345678", "Root=1-67:a/b+c~d@e.f_g", "x" * 128]
BAD = ["", "a b", "x" * 129, 'a"b', "a,b", "caf\xe9", "a\\b", "<a>"]


def field(value: str) -> str:
    return f"X-Request-Id: {value}"


@pytest.fixture
def lasting(serve: Serve) -> Served:
    async def answer(request: Request) -> Response:
        return Response(200, [("ETag", '"1"')], request.path.encode(), lasts=lambda: True)

    return serve(answer)


@pytest.mark.parametrize("given", SANE)
def test_the_clients_id_is_kept(serve: Serve, echo: Handler, given: str) -> None:
    served = serve(echo)
    assert served.ask(request("/", field(given))).fields["x-request-id"] == given
    served.catch_up()
    assert served.lines[0].endswith(f" {given}")


@pytest.mark.parametrize("given", BAD)
def test_a_bad_id_is_replaced(serve: Serve, echo: Handler, given: str) -> None:
    served = serve(echo)
    own = served.ask(request("/", field(given))).fields["x-request-id"]
    assert OURS.fullmatch(own)
    served.catch_up()
    assert served.lines[0].endswith(f" {own}")


def test_two_ids_are_none(serve: Serve, echo: Handler) -> None:
    reply = serve(echo).ask(request("/", field("a"), field("b")))
    assert OURS.fullmatch(reply.fields["x-request-id"])


def test_no_two_requests_get_the_same_id(lasting: Served) -> None:
    clients = [lasting.connect() for _ in range(3)]
    ids = [client.ask(request()).fields["x-request-id"] for client in clients * 4]
    assert len(set(ids)) == 12
    assert all(map(OURS.fullmatch, ids))
    lasting.catch_up()
    assert [line.split()[-1] for line in lasting.lines] == ids


def test_a_head_that_cannot_be_read_gets_an_id(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    own = served.ask(b"nonsense\r\n\r\n").fields["x-request-id"]
    assert OURS.fullmatch(own)
    served.catch_up()
    assert served.lines[0].endswith(f" {own}")


def test_a_head_in_parts_keeps_its_id(serve: Serve, echo: Handler) -> None:
    served = serve(echo)
    client = served.connect()
    for part in (b"GET / HTTP/1.1\r\nHost: t\r\nX-Req", b"uest-Id: ab", b"c\r\n\r\n"):
        client.send(part)
        served.catch_up()
    assert client.read_reply().fields["x-request-id"] == "abc"


# ---- lines that are logged meanwhile


class Lines:
    """Notes what is logged, and of which request that is."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def __call__(self, message: str) -> None:
        self.ids[str(message).strip()] = log.request_id.get()


def test_each_line_is_of_its_own_request(serve: Serve, gate: Event) -> None:
    """Also in the pool, and while another request is worked on."""
    lines = Lines()
    sink = logger.add(lines, level="INFO", format="{message}")

    async def handle(request: Request) -> Response:
        logger.info("{} loop", request.path)
        await in_pool(lambda: gate.wait() and logger.info("{} pool", request.path))
        logger.info("{} after", request.path)
        raise Refusal(404, "none")

    served = serve(handle)
    clients = [served.connect() for _ in range(2)]
    for name, client in zip("ab", clients, strict=True):
        client.send(request(f"/{name}", field(name)))
    served.catch_up()
    gate.set()
    assert [client.read_reply().fields["x-request-id"] for client in clients] == ["a", "b"]
    served.call(lambda: logger.info("nobody"))
    logger.remove(sink)
    assert lines.ids == {
        **{f"/{name} {where}": name for name in "ab" for where in ("loop", "pool", "after")},
        "nobody": "",
    }


def test_an_unexpected_error_names_its_request(serve: Serve) -> None:
    lines = Lines()

    async def fail(_request: Request) -> Response:
        raise KeyError

    served = serve(fail)
    sink = logger.add(lines, level="ERROR", format="{message}")
    served.ask(request("/", field("abc")))
    logger.remove(sink)
    served.forgive()
    assert set(lines.ids.values()) == {"abc"}


# ---- answers that are given again


def test_an_id_does_not_keep_an_answer_from_being_given_again(serve: Serve) -> None:
    calls = []

    async def answer(request: Request) -> Response:
        calls.append(request.path)
        return Response(200, [], request.path.encode(), lasts=lambda: True)

    served = serve(answer)
    client = served.connect()
    asked = [request("/a", field("one")), request("/a", field("two")), request("/a")]
    replies = [client.ask(each) for each in asked]
    assert [reply.fields["x-request-id"] for reply in replies[:2]] == ["one", "two"]
    assert OURS.fullmatch(replies[2].fields["x-request-id"])
    assert {reply.content for reply in replies} == {b"/a"}
    assert calls == ["/a"]
    served.catch_up()
    assert [line.split()[-1] for line in served.lines[:2]] == ["one", "two"]


R = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
LINE = b"X-Request-Id: a\r\n"


@pytest.mark.parametrize(
    "asked",
    [
        b"GET / HTTP/1.1\r\n" + LINE + b"Host: t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nx-request-id:a\r\n\r\n",
    ],
)
def test_the_line_is_taken_out_wherever_it_is(asked: bytes) -> None:
    assert without_id(asked) == (R, "a")


@pytest.mark.parametrize(
    "asked",
    [
        R,
        R + LINE,  # the beginning of another request
        b"GET / HTTP/1.1\r\nHost: t\r\n" + LINE + b"\r\nGET",
        b"GET / HTTP/1.1\r\nHost: t\r\n" + LINE + b"X-REQUEST-ID: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\n" + LINE + LINE + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nX-Request-Id: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: t\r\nX-Request-Id : a\r\n\r\n",
    ],
)
def test_what_may_mean_something_else_is_left(asked: bytes) -> None:
    assert without_id(asked) is None
    assert has_id(asked) == (asked != R)


def test_requests_with_a_bad_id_are_not_remembered(lasting: Served) -> None:
    client = lasting.connect()
    for _ in range(2):
        client.ask(request("/a", field("a b")))
    recall = lasting.server._recall
    assert not recall._whole
    assert not recall._heads


def test_pipelined_requests_keep_their_ids(lasting: Served) -> None:
    client = lasting.connect()
    client.ask(request("/a"))
    client.send(request("/a", field("one")) + request("/a", field("two")))
    assert [client.read_reply().fields["x-request-id"] for _ in "12"] == ["one", "two"]
