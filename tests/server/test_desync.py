"""Answers that come before the content does: what follows is never taken for something else.

The handler reads no content (`deaf`): a server that forgets it there has the client's next bytes
for a request (CL.0), and one that waits for it has the next request for content (0.CL).
"""

from __future__ import annotations

import pytest

from httpd.exchange import Request, Response
from httpd.server.connection import SKIP_BYTES, Handler
from tests.served import Client, request
from tests.server.conftest import Serve

HIDDEN = request("/hidden")
NEXT = request("/next", "Connection: close")


def declare(length: int, *fields: str, target: str = "/", method: str = "POST") -> bytes:
    return request(target, f"Content-Length: {length}", *fields, method=method)


def statuses_to_the_end(client: Client) -> list[int]:
    """Read whole responses until the server closes; fail at anything in between."""
    found = []
    while not found or not client.closed_by_server():
        found.append(client.read_reply().status)
    return found


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_content_that_is_a_request_stays_content(method: str, serve: Serve, deaf: Handler) -> None:
    client = serve(deaf).connect()
    client.send(declare(len(HIDDEN), method=method) + HIDDEN + NEXT)
    assert statuses_to_the_end(client) == [200, 200]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_content_that_comes_after_its_answer_stays_content(
    method: str, serve: Serve, deaf: Handler
) -> None:
    served = serve(deaf)
    client = served.connect()
    client.send(declare(len(HIDDEN), method=method))
    assert client.read_reply().status == 200  # the answer is there before the content
    for index in range(len(HIDDEN)):
        client.send(HIDDEN[index : index + 1])
        served.catch_up()
    client.send(NEXT)
    assert statuses_to_the_end(client) == [200]
    served.catch_up()
    assert not [line for line in served.lines if "/hidden" in line]


@pytest.mark.parametrize("target", ["/%zz", "/a%2Fb"])
def test_content_of_a_refused_request_stays_content(
    target: str, serve: Serve, deaf: Handler
) -> None:
    client = serve(deaf).connect()
    client.send(declare(len(HIDDEN), target=target))
    assert client.read_reply().status == 400
    client.send(HIDDEN + NEXT)
    assert statuses_to_the_end(client) == [200]


CLOSING = {
    "more than is read over": declare(SKIP_BYTES + 1),
    "of unknown length": request("/", "Transfer-Encoding: chunked", method="POST"),
    "held back": declare(len(HIDDEN), "Expect: 100-continue"),
    "held back by a GET": declare(len(HIDDEN), "Expect: 100-continue", method="GET"),
}


@pytest.mark.parametrize("head", CLOSING.values(), ids=CLOSING)
def test_an_answer_before_content_that_may_not_come_is_the_last(
    head: bytes, serve: Serve, deaf: Handler
) -> None:
    served = serve(deaf)
    client = served.connect()
    client.send(head)
    reply = client.read_reply()
    assert (reply.status, reply.closes) == (200, True)
    client.send(HIDDEN)  # a client that has not read to the end may send another request
    client.half_close()
    assert client.read_to_end() == b""
    served.catch_up()
    assert not [line for line in served.lines if "/hidden" in line]


async def refuse_half_read(request: Request) -> Response:
    await anext(aiter(request.body))
    return Response(404, [], b"enough")


def test_an_answer_in_the_middle_of_the_content(serve: Serve) -> None:
    client = serve(refuse_half_read).connect()
    client.send(declare(4 + len(HIDDEN)) + b"half")
    assert client.read_reply().status == 404
    client.send(HIDDEN + request("/next", "Content-Length: 1", "Connection: close") + b"x")
    assert statuses_to_the_end(client) == [404]


def test_an_unfinished_chunk_is_no_place_for_a_request(serve: Serve) -> None:
    client = serve(refuse_half_read).connect()
    client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"ff\r\nhalf")
    reply = client.read_reply()
    assert (reply.status, reply.closes) == (404, True)
    client.send(HIDDEN)
    client.half_close()
    assert client.read_to_end() == b""
