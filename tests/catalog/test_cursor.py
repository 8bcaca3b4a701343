from __future__ import annotations

import string
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.catalog.cursor import Cursor

UNRESERVED = set(string.ascii_letters + string.digits + "-_")
GOOD = str(Cursor(1_700_000_000_000_000, str(UUID(int=0xFBEFFE << 80))))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.uuids())
def test_a_cursor_is_read_as_it_was_written(created_us: int, file_id: UUID) -> None:
    cursor = Cursor(created_us, str(file_id))
    assert Cursor.parse(str(cursor)) == cursor
    assert set(str(cursor)) <= UNRESERVED


MALFORMED = {
    "empty": "",
    "cut off": GOOD[:-1],
    "a group short": GOOD[:-4],
    "a group more": GOOD + "AAAA",
    "padded": GOOD + "====",
    "another alphabet": GOOD.replace("-", "+").replace("_", "/"),
    "a space in it": GOOD[:8] + " " + GOOD[8:],
    "a line break behind it": GOOD + "\n",
    "not ASCII": "é" * 32,
    "half of a pair": "\ud83d" * 32,
    "NUL": "\0" * 32,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.parse(text)
