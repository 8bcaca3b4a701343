from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.exchange import Fields, Refusal
from httpd.protocol.framing import (
    LINE_BYTES,
    OVERHEAD_BYTES,
    ChunkedDecoder,
    Framing,
    LengthDecoder,
    framing_of,
)
from httpd.protocol.head import Head

Deliveries = Callable[[bytes], list[list[bytes]]]
Lines = list[tuple[str, str]]

LENGTH = "content-length"
CODING = "transfer-encoding"
EXPECT = "expect"


def head_of(method: str, version: tuple[int, int], lines: Lines) -> Head:
    return Head(method, "/", version, Fields(lines))


DECLARED: list[tuple[str, tuple[int, int], Lines, Framing]] = [
    ("GET", (1, 1), [], Framing(0, expects_continue=False)),
    ("DELETE", (1, 0), [], Framing(0, expects_continue=False)),
    ("GET", (1, 1), [(LENGTH, "5")], Framing(5, expects_continue=False)),
    ("POST", (1, 1), [(LENGTH, "0")], Framing(0, expects_continue=False)),
    ("POST", (1, 0), [(LENGTH, "007")], Framing(7, expects_continue=False)),
    ("POST", (1, 1), [(LENGTH, "9" * 18)], Framing(10**18 - 1, expects_continue=False)),
    ("POST", (1, 1), [(CODING, "chunked")], Framing(None, expects_continue=False)),
    ("GET", (1, 2), [(CODING, "CHUNKED")], Framing(None, expects_continue=False)),
    ("POST", (1, 1), [(LENGTH, "5"), (EXPECT, "100-Continue")], Framing(5, expects_continue=True)),
    (
        "POST",
        (1, 1),
        [(CODING, "chunked"), (EXPECT, "100-continue")],
        Framing(None, expects_continue=True),
    ),
    ("POST", (1, 1), [(LENGTH, "0"), (EXPECT, "100-continue")], Framing(0, expects_continue=False)),
    ("POST", (1, 0), [(LENGTH, "5"), (EXPECT, "100-continue")], Framing(5, expects_continue=False)),
    ("POST", (1, 0), [(LENGTH, "5"), (EXPECT, "miracles")], Framing(5, expects_continue=False)),
]

UNDECLARABLE: list[tuple[str, tuple[int, int], Lines, int]] = [
    *(
        ("POST", (1, 1), [(LENGTH, value)], 400)
        for value in (
            "",
            "+5",
            "-5",
            "5.0",
            "0x5",
            "5 5",
            "5,5",
            "5, 5",
            "\u0665",
            "\xb2",
            "1" * 19,
        )
    ),
    ("POST", (1, 1), [(LENGTH, "5"), (LENGTH, "5")], 400),
    ("GET", (1, 1), [(LENGTH, "5"), (LENGTH, "6")], 400),
    ("POST", (1, 1), [(LENGTH, "5"), (CODING, "chunked")], 400),
    ("POST", (1, 1), [(CODING, "gzip"), (LENGTH, "5")], 400),
    ("POST", (1, 0), [(CODING, "chunked")], 400),
    *(
        ("POST", (1, 1), [(CODING, value)], 400)
        for value in (
            *("", ",chunked", "chunked,", '"chunked"', "chun ked", "chunked;", "chunked\x0b"),
            *("chunked;a=b", "gzip, chunked;a=b", "chunked, gzip", "chunked;a=b, gzip"),
            *("chunked, chunked", "chunked , identity"),
        )
    ),
    ("POST", (1, 1), [(CODING, "chunked"), (CODING, "chunked")], 400),
    *(
        ("POST", (1, 1), [(CODING, value)], 501)
        for value in ("gzip", "identity", "xchunked", "gzip, chunked", 'a;b="c;d" , chunked')
    ),
    ("POST", (1, 1), [], 411),
    ("POST", (1, 0), [], 411),
    ("POST", (1, 1), [(LENGTH, "5"), (EXPECT, "200-ok")], 417),
    ("POST", (1, 1), [(LENGTH, "5"), (EXPECT, "100-continue, 100-continue")], 417),
    ("POST", (1, 1), [(LENGTH, "5"), (EXPECT, "")], 417),
    ("GET", (1, 1), [(EXPECT, "miracles")], 417),
    ("POST", (1, 1), [(EXPECT, "miracles")], 411),
]


@pytest.mark.parametrize(("method", "version", "lines", "framing"), DECLARED)
def test_the_head_declares_the_framing(
    method: str, version: tuple[int, int], lines: Lines, framing: Framing
) -> None:
    assert framing_of(head_of(method, version, lines)) == framing


@pytest.mark.parametrize(("method", "version", "lines", "status"), UNDECLARABLE)
def test_other_framing_is_refused_and_closes(
    method: str, version: tuple[int, int], lines: Lines, status: int
) -> None:
    with pytest.raises(Refusal) as refused:
        framing_of(head_of(method, version, lines))
    assert (refused.value.status, refused.value.close) == (status, True)


@pytest.mark.parametrize(("length", "kind"), [(5, LengthDecoder), (None, ChunkedDecoder)])
def test_the_framing_has_its_decoder(length: int | None, kind: type) -> None:
    decoder = Framing(length, expects_continue=False).decoder()
    assert isinstance(decoder, kind)
    assert (decoder.length, decoder.remaining, decoder.finished) == (length, length, False)


def decode(decoder: LengthDecoder | ChunkedDecoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed the pieces to the end of the content; return it and what is left."""
    buffer, content = bytearray(), b""
    for piece in pieces:
        buffer += piece
        while not decoder.finished and (decoded := decoder.decode(buffer)) is not None:
            content += decoded
    assert decoder.finished
    assert decoder.remaining == 0
    return content, bytes(buffer)


@pytest.mark.parametrize("trailing", [b"", b"GET /", b"\r\n"])
@pytest.mark.parametrize("content", [b"", b"a", b"0\r\n\r\n", b"long " * 20])
def test_content_of_a_known_length(content: bytes, trailing: bytes, deliveries: Deliveries) -> None:
    for pieces in deliveries(content + trailing):
        assert decode(LengthDecoder(len(content)), pieces) == (content, trailing)


def test_a_length_decoder_knows_what_is_still_to_come() -> None:
    decoder = LengthDecoder(5)
    assert decoder.decode(bytearray()) is None
    assert decoder.decode(bytearray(b"ab")) == b"ab"
    assert (decoder.length, decoder.remaining, decoder.finished) == (5, 3, False)


CHUNKED: list[tuple[bytes, bytes]] = [
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n00001\r\n \r\na\r\nwonderful!\r\nA\r\n1234567890\r\n0\r\n\r\n",
     b"hello wonderful!1234567890"),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    (b"0000000000000002\r\nhi\r\n0000000000000000\r\n\r\n", b"hi"),
    (b"2;a\r\nhi\r\n0;b=c\r\n\r\n", b"hi"),
    (b"2 ; a = b\t;c=\"d;\\\"\xff e\"\r\nhi\r\n0\r\n\r\n", b"hi"),
    (b"2\r\nhi\r\n0\r\nX: y\r\nEmpty:\r\n\r\n", b"hi"),
    (b"2\r\nhi\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n", b"hi"),
]  # fmt: skip

BROKEN_CHUNKS: list[bytes] = [
    b"\r\n",
    b"x\r\n",
    b"-1\r\n",
    b"+1\r\n",
    b"0x1\r\n",
    b"1_0\r\n",
    b" 2\r\nhi\r\n",
    b"2 \r\nhi\r\n",
    b"12345678901234567\r\n",
    b"2\nhi\r\n",
    b"2\r\r\nhi\r\n",
    b"2;\r\nhi\r\n",
    b"2;=b\r\nhi\r\n",
    b"2;a=\r\nhi\r\n",
    b'2;a="b\r\nhi\r\n',
    b'2;a="b\nc"\r\nhi\r\n',
    b"2;a=b c\r\nhi\r\n",
    b"2;a\x00\r\nhi\r\n",
    b"2,a\r\nhi\r\n",
    b"2\r\nhi!\r\n",
    b"2\r\nhi\n0\r\n\r\n",
    b"2\r\nhi\r0\r\n\r\n",
    b"2\r\nhi\r\r",
    b"0\r\n\n",
    b"0\r\nX : y\r\n",
    b"0\r\n folded\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\nX: \x00\r\n",
    b"0\r\nnone\r\n",
    b"0\r\n\r\r\n",
    b"2" * LINE_BYTES,
    b"2;" + b"a" * LINE_BYTES + b"\r\n",
    b"0\r\nX: " + b"y" * LINE_BYTES + b"\r\n",
]


@pytest.mark.parametrize("trailing", [b"", b"POST / HTTP/1.1\r\n", b"0\r\n\r\n", b"\n"])
@pytest.mark.parametrize(("wire", "content"), CHUNKED)
def test_content_in_chunks(
    wire: bytes, content: bytes, trailing: bytes, deliveries: Deliveries
) -> None:
    for pieces in deliveries(wire + trailing):
        assert decode(ChunkedDecoder(), pieces) == (content, trailing)


@pytest.mark.parametrize("trailing", [b"", b"0\r\n\r\n"])
@pytest.mark.parametrize("wire", BROKEN_CHUNKS)
def test_broken_chunks_are_refused_and_close(
    wire: bytes, trailing: bytes, deliveries: Deliveries
) -> None:
    for pieces in deliveries(wire + trailing):
        with pytest.raises(Refusal) as refused:
            decode(ChunkedDecoder(), pieces)
        assert (refused.value.status, refused.value.close) == (400, True)


@pytest.mark.parametrize(
    "unfinished", [b"", b"2", b"2;a", b"2\r", b"2\r\n", b"2\r\nhi\r", b"0\r\n", b"0\r\nX: y\r\n\r"]
)
def test_unfinished_chunks_wait_for_more(unfinished: bytes) -> None:
    decoder, buffer = ChunkedDecoder(), bytearray(unfinished)
    while decoder.decode(buffer) is not None:
        pass
    assert (decoder.finished, decoder.remaining) == (False, None)


def test_the_content_of_many_chunks_comes_as_one_piece() -> None:
    buffer = bytearray(b"1\r\na\r\n" * 1000 + b"5\r\nb")
    assert ChunkedDecoder().decode(buffer) == b"a" * 1000 + b"b"
    assert buffer == b""


EXTENSION = b";" + b"a" * 1000
OVERHEAD: list[tuple[bytes, bytes, bytes]] = [
    # one element, the content in it, what ends the body
    (b"1" + EXTENSION + b"\r\na\r\n", b"a", b"0\r\n\r\n"),
    (b"X: " + b"a" * 1000 + b"\r\n", b"", b"\r\n"),
]


@pytest.mark.parametrize(("element", "content", "end"), OVERHEAD)
def test_extensions_and_trailers_are_bounded_beside_little_content(
    element: bytes, content: bytes, end: bytes
) -> None:
    begin = b"" if content else b"0\r\n"
    fitting = OVERHEAD_BYTES // len(element)
    assert decode(ChunkedDecoder(), [begin + element * fitting + end])[0] == content * fitting
    with pytest.raises(Refusal) as refused:
        decode(ChunkedDecoder(), [begin + element * (fitting + 2) + end])
    assert (refused.value.status, refused.value.close) == (400, True)


def test_much_content_may_carry_many_extensions() -> None:
    chunk = b"%x" % 2000 + EXTENSION + b"\r\n" + b"a" * 2000 + b"\r\n"
    chunks = 2 * OVERHEAD_BYTES // len(EXTENSION)
    assert len(decode(ChunkedDecoder(), [chunk * chunks + b"0\r\n\r\n"])[0]) == 2000 * chunks


CHUNK_TEXT = st.lists(
    st.sampled_from(
        [
            *(b"0", b"1", b"2", b"a", b"\r\n", b"\r", b"\n", b";", b'="', b'"', b" ", b"X: y"),
            *(b"1\r\na\r\n", b"0\r\n\r\n"),
        ]
    ),
    max_size=30,
).map(b"".join)


def outcome(pieces: list[bytes]) -> tuple[object, ...]:
    decoder, buffer, content = ChunkedDecoder(), bytearray(), b""
    for piece in pieces:
        buffer += piece
        try:
            while not decoder.finished and (decoded := decoder.decode(buffer)) is not None:
                content += decoded
        except Refusal as refusal:
            return ("refused", refusal.status)
    return (decoder.finished, content, bytes(buffer) if decoder.finished else None)


@given(data=CHUNK_TEXT | st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_chunks_have_one_outcome_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert outcome([data[a:b] for a, b in pairwise(edges)]) == outcome([data])


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), trailing=st.binary())
def test_what_was_put_into_chunks_comes_out_of_them(chunks: list[bytes], trailing: bytes) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert decode(ChunkedDecoder(), [wire + trailing]) == (b"".join(chunks), trailing)
