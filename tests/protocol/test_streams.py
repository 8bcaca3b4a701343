"""Whatever a client sends: requests, "more is needed" or a refusal, and always the same ones."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.protocol.head import take_head
from httpd.protocol.render import render_fields
from tests.corpus import CASES
from tests.streams import LIMITS, MORE, OPEN, Reading, bytewise, cut, describe, read_stream

TOKENS = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"/", b"/up", b"/%0d", b"http://b", b"*", b" HTTP/1.1", b" HTTP/1.0"),
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"\0",
            b" ",
            b"\t",
            b"\x0b",
            b"\xa0",
            b":",
            b";",
            b",",
        ),
        *(b"Host: a\r\n", b"Content-Length: ", b"Transfer-Encoding: ", b"chunked\r\n", b"identity"),
        *(
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"X: y\r\n",
            b"5",
            b"0",
            b"+",
            b"a",
        ),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"POST /up HTTP/1.1\r\nHost: a\r\n"),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
)
STREAMS = st.lists(TOKENS, max_size=30).map(b"".join) | st.binary(max_size=200)
CUTS = st.lists(st.integers(0, 700), max_size=8)
CORPUS = st.sampled_from([case.data for case in CASES.values() if len(case.data) <= 600])


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Return a few requests of the corpus in a row, damaged in a few places."""
    data = bytearray(b"".join(draw(st.lists(CORPUS, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 3))
        data[start : start + length] = draw(TOKENS | st.binary(max_size=3))
    return bytes(data)


def check(data: bytes, cuts: list[int]) -> Reading:
    """Fail if the stream reads differently in other pieces, or with another end."""
    whole = read_stream([data])
    assert read_stream(bytewise(data)) == whole
    assert read_stream(cut(data, cuts)) == whole
    return whole


@given(data=STREAMS, cuts=CUTS)
def test_any_bytes_read_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    check(data, cuts)


@settings(max_examples=300)
@given(data=mutations(), cuts=CUTS)
def test_damaged_requests_read_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    check(data, cuts)


@given(data=mutations() | STREAMS, more=STREAMS)
def test_what_is_answered_is_never_taken_back(data: bytes, more: bytes) -> None:
    before, after = read_stream([data]), read_stream([data + more])
    assert after.answers[: len(before.answers)] == before.answers
    if before.end not in (OPEN, MORE):
        assert after == before


# Requests as a client writes them that is right in everything.

METHODS = st.sampled_from(["GET", "POST", "DELETE", "BREW"])
PATHS = st.text("abcXYZ019-._~!$&'()*+,;=:@", max_size=20).map("/{}".format)
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20
).map(str.strip)
NAMES = st.text("abXY09!#$%&'*+.^_`|~-", min_size=1, max_size=15)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, str]:
    """Return a request as bytes, and what it is understood as."""
    method, path, content = draw(METHODS), draw(PATHS), draw(st.binary(max_size=60))
    fields = [("Host", "a"), *draw(FIELDS)]
    framing = draw(st.sampled_from(["length", "chunks"] if content or method == "POST" else [""]))
    wire = content
    if framing == "length":
        fields.append(("Content-Length", str(len(content))))
    elif framing == "chunks":
        fields.append(("Transfer-Encoding", "chunked"))
        pieces = [piece for piece in cut(content, draw(st.lists(st.integers(1, 60)))) if piece]
        chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        wire = chunks + b"0\r\n" + render_fields(draw(FIELDS)) + b"\r\n"
    head = f"{method} {path} HTTP/1.1\r\n".encode() + render_fields(fields) + b"\r\n"
    return head + wire, describe(method, path, (), content)


@given(wanted=st.lists(requests(), min_size=1, max_size=4), cuts=CUTS)
def test_what_is_sent_is_what_is_understood(
    wanted: list[tuple[bytes, str]], cuts: list[int]
) -> None:
    reading = check(b"".join(wire for wire, _ in wanted), cuts)
    assert reading == Reading(tuple(told for _, told in wanted), OPEN)


@given(fields=FIELDS)
def test_rendered_fields_are_the_fields_that_are_parsed(fields: list[tuple[str, str]]) -> None:
    block = render_fields([("Host", "a"), *fields])
    head = take_head(bytearray(b"GET / HTTP/1.1\r\n" + block + b"\r\n"), LIMITS)
    assert head is not None
    assert list(head.fields) == [("host", "a"), *((name.lower(), value) for name, value in fields)]


@given(fields=st.lists(st.tuples(st.text(max_size=10), st.text(max_size=20)), max_size=3))
def test_rendered_fields_are_as_many_as_were_given(fields: list[tuple[str, str]]) -> None:
    try:
        block = render_fields([("Host", "a"), *fields])
    except ValueError:
        return  # what cannot be rendered has rendered nothing
    head = take_head(bytearray(b"GET / HTTP/1.1\r\n" + block + b"\r\n"), LIMITS)
    assert head is not None
    assert len(head.fields) == 1 + len(fields)
