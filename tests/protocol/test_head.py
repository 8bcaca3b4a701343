from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from httpd.exchange import Fields, Refusal
from httpd.protocol import head as head_module
from httpd.protocol.head import MEMO_BLOCK, MEMO_ENTRIES, Head, HeadLimits, take_head

Deliveries = Callable[[bytes], list[list[bytes]]]

LIMITS = HeadLimits(target=60, head=200, fields=5)

Outcome = tuple[object, ...]


def outcome(pieces: list[bytes], limits: HeadLimits = LIMITS) -> Outcome:
    """Feed the pieces; return the head and what is left, the refusal, or that more is needed."""
    buffer = bytearray()
    taken: Head | None = None
    for piece in pieces:
        buffer += piece
        if taken is None:
            before = bytes(buffer)
            try:
                taken = take_head(buffer, limits)
            except Refusal as refusal:
                return ("refused", refusal.status, refusal.reason, refusal.close)
            assert taken or buffer == before
    if taken is None:
        return ("more", bytes(buffer))
    return ("head", *taken[:3], list(taken.fields), bytes(buffer))


def request(*lines: str, line: str = "GET / HTTP/1.1", host: str | None = "Host: a") -> bytes:
    """Return a head of that request line and those field lines."""
    all_lines = [line, *([host] if host is not None else []), *lines, "", ""]
    return "\r\n".join(all_lines).encode("latin-1")


GOOD: list[tuple[bytes, str, str, tuple[int, int], list[tuple[str, str]]]] = [
    (request(), "GET", "/", (1, 1), [("host", "a")]),
    (request(line="FOO /a?b=c&d HTTP/1.1"), "FOO", "/a?b=c&d", (1, 1), [("host", "a")]),
    (request(line="M-Search!~ / HTTP/1.1"), "M-Search!~", "/", (1, 1), [("host", "a")]),
    (request(line="GET / HTTP/1.0", host=None), "GET", "/", (1, 0), []),
    (request(line="GET / HTTP/1.0"), "GET", "/", (1, 0), [("host", "a")]),
    (request(line="GET / HTTP/1.7"), "GET", "/", (1, 7), [("host", "a")]),
    (b"\r\n" * 4 + request(), "GET", "/", (1, 1), [("host", "a")]),
    (request(line="GET http://b:80/c?d HTTP/1.1"), "GET", "/c?d", (1, 1), [("host", "a")]),
    (request(line="GET HTTPS://[::1] HTTP/1.1"), "GET", "/", (1, 1), [("host", "a")]),
    (request(line="GET http://b?c HTTP/1.1"), "GET", "/?c", (1, 1), [("host", "a")]),
    (request(line="OPTIONS * HTTP/1.1"), "OPTIONS", "*", (1, 1), [("host", "a")]),
    (request(line="CONNECT b:443 HTTP/1.1"), "CONNECT", "b:443", (1, 1), [("host", "a")]),
    (request(line='GET /%zz{}|^" HTTP/1.1'), "GET", '/%zz{}|^"', (1, 1), [("host", "a")]),
    (request(host="Host:"), "GET", "/", (1, 1), [("host", "")]),
    (request(host="HOST: b.example:80"), "GET", "/", (1, 1), [("host", "b.example:80")]),
    (request(host="Host:[fe80::1]:9"), "GET", "/", (1, 1), [("host", "[fe80::1]:9")]),
    (request(host="Host: a_b%41!"), "GET", "/", (1, 1), [("host", "a_b%41!")]),
    (request("X:"), "GET", "/", (1, 1), [("host", "a"), ("x", "")]),
    (request("X:  \t "), "GET", "/", (1, 1), [("host", "a"), ("x", "")]),
    (request("X: \tb c\td \t"), "GET", "/", (1, 1), [("host", "a"), ("x", "b c\td")]),
    (request("X:b:c"), "GET", "/", (1, 1), [("host", "a"), ("x", "b:c")]),
    (request("X: \xe9\xff"), "GET", "/", (1, 1), [("host", "a"), ("x", "\xe9\xff")]),
    (request("X: 1", "x: 2"), "GET", "/", (1, 1), [("host", "a"), ("x", "1"), ("x", "2")]),
    (request(line=f"GET /{'t' * 59} HTTP/1.1"), "GET", "/" + "t" * 59, (1, 1), [("host", "a")]),
]

BAD: list[tuple[bytes, int]] = [
    # the request line
    (b"\r\n" * 5 + request(), 400),
    (b"\n" + request(), 400),
    (b"\r" + request(), 400),
    (b" " + request(), 400),
    (request(line="GET  / HTTP/1.1"), 400),
    (request(line="GET /  HTTP/1.1"), 400),
    (request(line="GET\t/ HTTP/1.1"), 400),
    (request(line="GET / HTTP/1.1 "), 400),
    (request(line="GET /a b HTTP/1.1"), 400),
    (request(line="G@T / HTTP/1.1"), 400),
    (request(line="M" * 65 + " / HTTP/1.1"), 400),
    (request(line="GET /"), 400),
    (request(line="GET"), 400),
    (request(line="GET / http/1.1"), 400),
    (request(line="GET / HTTP/1"), 400),
    (request(line="GET / HTTP/1.10"), 400),
    (request(line="GET / HTTP/01.1"), 400),
    (request(line="GET / HTTPS/1.1"), 400),
    (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\n\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # the hello of TLS
    (request(line="GET / HTTP/2.0"), 505),
    (request(line="GET / HTTP/0.9"), 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    # the target
    (request(line="GET /\x00 HTTP/1.1"), 400),
    (request(line="GET /\x7f HTTP/1.1"), 400),
    (request(line="GET /\xe9 HTTP/1.1"), 400),
    (request(line="GET /#fragment HTTP/1.1"), 400),
    (request(line="GET a HTTP/1.1"), 400),
    (request(line="GET * HTTP/1.1"), 400),
    (request(line="GET b:443 HTTP/1.1"), 400),
    (request(line="CONNECT b HTTP/1.1"), 400),
    (request(line="CONNECT * HTTP/1.1"), 400),
    (request(line="GET ftp://b/ HTTP/1.1"), 400),
    (request(line="GET http:/b HTTP/1.1"), 400),
    (request(line="GET http:///c HTTP/1.1"), 400),
    (request(line="GET http://user@b/ HTTP/1.1"), 400),
    (request(line=f"GET /{'t' * 60} HTTP/1.1"), 414),
    (request(line=f"GET /{'t' * 60}#x HTTP/2.0"), 414),
    (b"GET /" + b"t" * 60, 414),
    # the field lines
    (request("X : b"), 400),
    (request(": b"), 400),
    (request("X"), 400),
    (request("X\xe9: b"), 400),
    (request(" folded: b"), 400),
    (request("X: b", "\tfolded"), 400),
    (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    (request("X: b\nY: c"), 400),
    (request("X: b\rY: c"), 400),
    (request("X: b\r"), 400),
    (request("X: \x00"), 400),
    (request("X: \x1b"), 400),
    (request("X: \x7f"), 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400),
    (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
    # Host
    (request(host=None), 400),
    (request(line="GET http://b/ HTTP/1.1", host=None), 400),
    (request("Host: a"), 400),
    (request("Host:", host="Host:"), 400),
    (request("Host: a", line="GET / HTTP/1.0"), 400),
    (request(host="Host: a b"), 400),
    (request(host="Host: a, b"), 400),
    (request(host="Host: a/b"), 400),
    (request(host="Host: a:b"), 400),
    (request(host="Host: :80"), 400),
    (request(host="Host: user@a"), 400),
    (request(host="Host: [::1"), 400),
    (request(host="Host: a%4"), 400),
    # the limits
    (request(*["X: b"] * 5), 431),
    (request(*["X: b"] * 4, "\x00"), 431),
    (request("X: " + "b" * 200), 431),
    (b"GET / HTTP/1.1\r\nX: " + b"b" * 181, 431),
    # whatever is wrong first decides
    (request("X : b", "Y: " + "b" * 200), 400),
    (request("Y: " + "b" * 200, "X : b"), 431),
    (request("X\x00", *["X: b"] * 9), 400),
    (request("X : b", line="GET / HTTP/2.0"), 505),
]

UNFINISHED: list[bytes] = [
    b"",
    b"\r",
    b"\r\n\r",
    b"G",
    b"GET /" + b"t" * 59,
    b"GET / HTTP/1.1",
    b"GET / HTTP/1.1\r",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    b"GET / HTTP/1.1\r\n" + b"X: b\r\n" * 5 + b"\r",
    b"GET / HTTP/1.1\r\nX: " + b"b" * 180,
]


@pytest.mark.parametrize(("data", "method", "target", "version", "fields"), GOOD)
@pytest.mark.parametrize("trailing", [b"", b"GET / HTTP/1.1\r\n", b"\x00\n", b"\r\n"])
def test_a_good_head_is_taken_however_it_arrives(
    data: bytes,
    method: str,
    target: str,
    version: tuple[int, int],
    fields: list[tuple[str, str]],
    trailing: bytes,
    deliveries: Deliveries,
) -> None:
    for pieces in deliveries(data + trailing):
        assert outcome(pieces) == ("head", method, target, version, fields, trailing)


@pytest.mark.parametrize("trailing", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x00"])
@pytest.mark.parametrize(("data", "status"), BAD)
def test_a_bad_head_is_refused_however_it_arrives(
    data: bytes, status: int, trailing: bytes, deliveries: Deliveries
) -> None:
    for pieces in deliveries(data + trailing):
        kind, found, _, close = outcome(pieces)
        assert (kind, found, close) == ("refused", status, True)


@pytest.mark.parametrize("data", UNFINISHED)
def test_an_unfinished_head_waits_for_more(data: bytes, deliveries: Deliveries) -> None:
    for pieces in deliveries(data):
        assert outcome(pieces) == ("more", data)


def test_a_head_may_have_exactly_the_size_of_the_limit() -> None:
    data = request("X: " + "b" * 168)
    assert len(data) == LIMITS.head
    assert outcome([data])[0] == "head"
    assert outcome([data], LIMITS._replace(head=LIMITS.head - 1))[:2] == ("refused", 431)


def test_pipelined_heads_are_taken_one_by_one() -> None:
    buffer = bytearray(request(line="GET /1 HTTP/1.1") + request(line="GET /2 HTTP/1.1"))
    heads = [take_head(buffer, LIMITS), take_head(buffer, LIMITS), take_head(buffer, LIMITS)]
    assert [head and head.target for head in heads] == ["/1", "/2", None]


# Bytes that mean something to the parser, so that a search reaches its corners.
MEANINGFUL = st.lists(
    st.sampled_from(
        [
            *(b"GET", b" ", b"/", b"http://", b"*", b"#", b"t" * 30),
            *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"),
            *(b"Host", b"a", b":", b"\t", b"\xff", b"\x00", b"X: b\r\n"),
            *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"),
        ]
    ),
    max_size=40,
).map(b"".join)


@given(data=MEANINGFUL | st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=6))
@example(data=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", cuts=[])
def test_any_bytes_have_one_outcome_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    whole = outcome([data])
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert outcome(pieces) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))]) == whole


@given(data=MEANINGFUL, trailing=MEANINGFUL)
def test_a_decided_outcome_does_not_depend_on_what_follows(data: bytes, trailing: bytes) -> None:
    alone, followed = outcome([data]), outcome([data + trailing])
    if alone[0] == "refused":
        assert followed == alone
    elif alone[0] == "head":
        assert followed[:-1] == alone[:-1]


KEEPS_ALIVE: list[tuple[str, list[str], str]] = [
    ("HTTP/1.1", [], "kept"),
    ("HTTP/1.1", ["Connection: close"], "closed"),
    ("HTTP/1.1", ["Connection: foo,\tClose"], "closed"),
    ("HTTP/1.1", ["Connection: foo", "Connection: close"], "closed"),
    ("HTTP/1.1", ["Connection: keep-alive"], "kept"),
    ("HTTP/1.1", ["Connection: closed"], "kept"),
    ("HTTP/1.0", [], "closed"),
    ("HTTP/1.0", ["Connection: Keep-Alive"], "kept"),
    ("HTTP/1.0", ["Connection: keep-alive, close"], "closed"),
]


@pytest.mark.parametrize(("version", "lines", "end"), KEEPS_ALIVE)
def test_the_connection_persists_as_version_and_field_say(
    version: str, lines: list[str], end: str
) -> None:
    head = take_head(bytearray(request(*lines, line=f"GET / {version}")), LIMITS)
    assert head is not None
    assert head.keeps_alive == (end == "kept")


def test_the_fields_of_a_repeated_block_are_one_object() -> None:
    first = take_head(bytearray(request("X: memo")), LIMITS)
    second = take_head(bytearray(request("X: memo", line="POST /other HTTP/1.1")), LIMITS)
    assert first is not None
    assert second is not None
    assert first.fields is second.fields


def test_a_known_block_is_still_held_to_the_limit_and_to_the_version() -> None:
    assert outcome([request("X: b", "Y: c")])[0] == "head"
    assert outcome([request("X: b", "Y: c")], LIMITS._replace(fields=2))[:2] == ("refused", 431)
    assert outcome([request("X: no host", line="GET / HTTP/1.0", host=None)])[0] == "head"
    assert outcome([request("X: no host", host=None)])[:2] == ("refused", 400)


def test_the_memo_is_bounded_in_entries_and_in_bytes() -> None:
    roomy = HeadLimits(target=60, head=4 * MEMO_BLOCK, fields=5)
    for number in range(MEMO_ENTRIES + 5):
        take_head(bytearray(request(f"X: {number}")), roomy)
    take_head(bytearray(request("X: " + "b" * MEMO_BLOCK)), roomy)
    assert len(head_module._memo) == MEMO_ENTRIES
    assert max(map(len, head_module._memo)) <= MEMO_BLOCK


def test_what_is_read_of_a_header_block_is_read_once() -> None:
    reads: list[Fields] = []

    def length(fields: Fields) -> int:
        reads.append(fields)
        return len(fields)

    block = b"GET /%b HTTP/1.1\r\nHost: once\r\nX-Once: 1\r\n\r\n"
    for path in b"a", b"b":
        head = take_head(bytearray(block % path), LIMITS)
        assert head
        assert head.fields.once(length) == 2
        assert head.fields.once(len) == 2  # another one is no hit
    assert len(reads) == 1
