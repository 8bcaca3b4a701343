from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from httpd.server.inbox import MOST_AHEAD, Inbox
from httpd.server.loop import Loop
from httpd.server.traffic import Traffic
from httpd.server.transport import Transport
from tests.server.conftest import Pair

SIZE = 1000


@pytest.fixture
def inbox(loop: Loop, pair: Pair) -> Iterator[Inbox]:
    """An inbox that begins with SIZE bytes at once; it receives from the first of the pair."""
    with closing(Transport(pair[0].dup(), loop, Traffic(loop, ()))) as transport:
        yield Inbox(transport, loop, SIZE)


def test_it_keeps_what_has_come_in_order(inbox: Inbox, pair: Pair) -> None:
    assert inbox.take_in() is None
    for piece in b"ab", b"cd":
        pair[1].send(piece)
        assert inbox.take_in() == piece
    assert inbox.buffer == b"abcd"
    pair[1].close()
    assert inbox.take_in() == b""
    assert inbox.buffer == b"abcd"


@pytest.mark.parametrize("size", [SIZE - 1, SIZE])
def test_who_sends_more_than_it_takes_is_given_more_room(
    size: int, inbox: Inbox, pair: Pair
) -> None:
    pair[1].send(bytes(size))
    assert inbox.take_in() == bytes(size)
    pair[1].send(bytes(MOST_AHEAD + 1))
    received = inbox.take_in()
    assert received is not None
    assert len(received) == (MOST_AHEAD if size == SIZE else SIZE)
