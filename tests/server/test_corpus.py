"""The corpus of requests, replayed against a server's socket: it and the protocol floor agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from httpd.exchange import Request, Response
from tests import raw
from tests.corpus import CASES, Case
from tests.served import Served, settings_of
from tests.streams import FLAGS, MORE, Reading, describe


async def tell(request: Request) -> Response:
    """Answer with what was understood of the request."""
    content = b"".join([piece async for piece in request.body])
    told = describe(request.method, request.path, request.query, content)
    return Response(200, [], told.encode())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    with Served(tell, settings_of(home, *FLAGS)) as served:
        yield served


def answers_to(served: Served, pieces: list[bytes]) -> list[str]:
    """Send the pieces one at a time, end the sending, and tell what was answered."""
    client = served.connect()
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have closed by rights
        for piece in pieces:
            client.send(piece)
            served.catch_up()
        client.half_close()
    received = client.read_what_comes()
    client.close()
    return [
        answer.content.decode() if answer.status == 200 else str(answer.status)
        for answer in raw.answers_in(received)
    ]


def expected(reading: Reading) -> list[str]:
    """Return the answers on a connection that the client ends there."""
    return [*reading.answers, *(["400"] if reading.end == MORE else [])]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_connection_answers_the_same_however_the_bytes_arrive(case: Case, served: Served) -> None:
    assert answers_to(served, [case.data]) == expected(case.reading)
    if case.reading.end == MORE:
        data, reading = case.data, case.reading
    else:
        data, reading = case.followed()
    for pieces in case.splits(data):
        assert answers_to(served, pieces) == expected(reading)
