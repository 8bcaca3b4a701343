from __future__ import annotations

from contextlib import suppress
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.exchange import Refusal
from httpd.protocol.ranges import MAX_RANGES, closing, content_range, parse_range, part_head

SATISFIABLE: list[tuple[str, list[tuple[int, int]]]] = [
    ("bytes=0-0", [(0, 1)]),
    ("bytes=0-99", [(0, 100)]),
    ("bytes=0-", [(0, 100)]),
    ("bytes=99-", [(99, 1)]),
    ("bytes=10-19", [(10, 10)]),
    ("bytes=90-1000", [(90, 10)]),
    ("bytes=0-" + "9" * 40, [(0, 100)]),
    ("bytes=-1", [(99, 1)]),
    ("bytes=-100", [(0, 100)]),
    ("bytes=-1000", [(0, 100)]),
    ("Bytes=007-9", [(7, 3)]),
    ("bytes=0-0,-1", [(0, 1), (99, 1)]),
    ("bytes= 50-59 ,\t0-9,, ", [(50, 10), (0, 10)]),
    ("bytes=0-9,5-14", [(0, 10), (5, 10)]),
    ("bytes=200-,0-9,-0", [(0, 10)]),
    ("bytes=" + ",".join(["0-0"] * MAX_RANGES), [(0, 1)] * MAX_RANGES),
]

IGNORED = [
    *("", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-2-3"),
    *("bytes =0-1", "bytes=0 -1", "bytes=+1-2", "bytes=0-1 2-3", "bytes=0-1;2-3", "bytes=--1"),
    *("bytes=5-4", "bytes=0-1,5-4", "bytes=0-\u0663", "bytes=0-" + "9" * 41),
    *("lines=0-1", "0-1"),
    *("bytes=0-,0-", "bytes=0-,-1", "bytes=0-59,40-99", "bytes=" + ",".join(["0-0"] * 65)),
]

UNSATISFIABLE = [
    "bytes=100-",
    "bytes=100-200",
    "bytes=-0",
    "bytes=200-300,-0",
    "bytes=" + "9" * 40 + "-",
]


@pytest.mark.parametrize(("value", "ranges"), SATISFIABLE)
def test_satisfiable_ranges(value: str, ranges: list[tuple[int, int]]) -> None:
    assert parse_range(value, 100) == ranges


@pytest.mark.parametrize("value", IGNORED)
def test_malformed_and_excessive_ranges_are_ignored(value: str) -> None:
    assert parse_range(value, 100) is None


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *((value, 100) for value in UNSATISFIABLE),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-0", 0),
    ],
)
def test_unsatisfiable_ranges_are_refused_with_the_size(value: str, size: int) -> None:
    with pytest.raises(Refusal) as refused:
        parse_range(value, size)
    assert (refused.value.status, refused.value.close) == (416, False)
    assert refused.value.fields == [("Content-Range", f"bytes */{size}")]


def test_the_end_of_what_is_empty_is_served_whole() -> None:
    assert parse_range("bytes=-5", 0) is None


@given(
    specs=st.lists(st.from_regex(r"\A([0-9]{1,3}-[0-9]{0,3}|-[0-9]{1,3})\Z"), min_size=1),
    size=st.integers(0, 200),
)
def test_found_ranges_lie_within_the_size(specs: list[str], size: int) -> None:
    ranges: list[tuple[int, int]] | None = None
    with suppress(Refusal):
        ranges = parse_range("bytes=" + ",".join(specs), size)
    assert all(offset >= 0 and length > 0 for offset, length in ranges or [])
    assert all(offset + length <= size for offset, length in ranges or [])
    assert sum(length for _, length in ranges or []) <= size


def test_content_range_counts_from_zero_and_includes_the_last() -> None:
    assert content_range(10, 5, 100) == "bytes 10-14/100"


def test_the_parts_make_a_multipart_message() -> None:
    data, ranges = b"0123456789", [(2, 3), (8, 2)]
    body = b"".join(
        part_head("xyz", "text/plain", offset, length, len(data)) + data[offset : offset + length]
        for offset, length in ranges
    ) + closing("xyz")
    message = BytesParser().parsebytes(
        b"Content-Type: multipart/byteranges; boundary=xyz\r\n\r\n" + body
    )
    assert [
        (part["Content-Type"], part["Content-Range"], part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ] == [("text/plain", "bytes 2-4/10", b"234"), ("text/plain", "bytes 8-9/10", b"89")]


def test_a_part_head_takes_no_injected_line() -> None:
    with pytest.raises(ValueError, match="a response field"):
        part_head("xyz", "text/plain\r\nX: y", 0, 1, 1)
