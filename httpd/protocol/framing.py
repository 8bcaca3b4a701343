"""Where a request's content begins and ends (RFC 9112 sections 6 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from httpd.exchange import Refusal
from httpd.protocol.grammar import (
    CHUNK_SIZE_LINE,
    CONTENT_LENGTH,
    CRLF,
    FIELD_LINE,
    TRANSFER_CODINGS,
)
from httpd.protocol.head import Head

# The longest chunk-size or trailer line: nobody in use sends extensions near it.
LINE_BYTES = 4096
# What chunk extensions and trailers, which are read and dropped, may weigh together in excess of
# the content itself: a small body can carry a signature, and no body can be mostly overhead.
OVERHEAD_BYTES = 64 * 1024


class Framing(NamedTuple):
    """How a request's content is delimited."""

    length: int | None  # bytes of content; None when it comes in chunks
    expects_continue: bool  # the content is held back until 100 Continue is sent

    def decoder(self) -> LengthDecoder | ChunkedDecoder:
        """Return what takes the content out of the bytes received after the head."""
        return ChunkedDecoder() if self.length is None else LengthDecoder(self.length)


def framing_of(head: Head) -> Framing:
    """Return the framing a head declares.

    Raises Refusal, all closing, as the end of the request is then unknown: 400 contradictory or
    malformed framing, 411 POST without any, 417 an expectation other than 100-continue,
    501 a transfer coding other than chunked.
    """
    length = _content_length(head)
    return Framing(length, _expects_continue(head) and length != 0)


def _content_length(head: Head) -> int | None:
    """Return the declared length of the content, None when chunked (RFC 9112 6.3)."""
    fields = head.fields
    if "transfer-encoding" in fields:
        _check_chunked(head)
        return None
    value = fields.get("content-length")
    if value is None:
        if head.method == "POST":
            raise Refusal(411, "a POST needs Content-Length or chunked framing", close=True)
        return 0
    # Repeated lines read as a list, "5, 5", which is refused even where the two agree.
    if CONTENT_LENGTH.fullmatch(value) is None:
        raise Refusal(400, "malformed or repeated Content-Length", close=True)
    return int(value)


def _check_chunked(head: Head) -> None:
    """Refuse every Transfer-Encoding but exactly `chunked` (RFC 9112 6.1 and 6.3)."""
    value = head.fields.get("transfer-encoding") or ""
    if not head.http11:
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding", close=True)
    if "content-length" in head.fields:
        # Two readers that choose differently see two different requests: smuggling.
        raise Refusal(400, "Content-Length contradicts Transfer-Encoding", close=True)
    codings = [coding.strip(" \t").lower() for coding in value.split(",")]
    if codings == ["chunked"]:
        return
    names = [coding.partition(";")[0].rstrip(" \t") for coding in codings]
    if TRANSFER_CODINGS.fullmatch(value) is None or "chunked" in names[:-1]:
        raise Refusal(400, "malformed Transfer-Encoding", close=True)
    if names[-1] == "chunked" and codings[-1] != "chunked":
        raise Refusal(400, "the chunked coding has no parameters", close=True)
    raise Refusal(501, "no transfer coding but chunked is understood here", close=True)


def _expects_continue(head: Head) -> bool:
    """Tell whether 100 Continue is waited for (RFC 9110 10.1.1); HTTP/1.0 cannot ask for it."""
    expectation = head.fields.get("expect")
    if expectation is None or not head.http11:
        return False
    if expectation.lower() != "100-continue":
        raise Refusal(417, "no expectation but 100-continue is understood here", close=True)
    return True


class LengthDecoder:
    """Takes content of a declared length out of the bytes received (RFC 9112 6.2)."""

    __slots__ = ("finished", "length", "remaining")

    def __init__(self, length: int) -> None:
        """Take the length in bytes."""
        self.length: int | None = length
        self.remaining = length
        self.finished = length == 0

    def decode(self, buffer: bytearray) -> bytes | None:
        """Take the next piece of content off the front of `buffer`; None: more is needed.

        Once `finished`, what is left in the buffer belongs to the next request.
        """
        piece = _take(buffer, self.remaining)
        self.pass_by(len(piece))
        return piece or None

    @property
    def due(self) -> int:
        """The bytes of plain content that come next, with no framing in between."""
        return self.remaining

    def pass_by(self, size: int) -> None:
        """Count `size` bytes, at most what is due, that were received without the buffer."""
        self.remaining -= size
        self.finished = self.remaining == 0


class ChunkedDecoder:
    """Takes content out of its chunks; extensions and trailers are checked and dropped.

    Used as LengthDecoder is; `decode` also raises Refusal 400 (RFC 9112 7.1).
    """

    __slots__ = ("_chunk", "_content", "_next", "_overhead", "finished")

    length: int | None = None

    def __init__(self) -> None:
        """Begin before the first chunk-size line."""
        self.finished = False
        self._chunk = 0  # bytes of the present chunk's data still to come
        self._content = 0  # bytes announced by all chunks so far
        self._overhead = 0  # bytes of extensions and trailers so far
        # Takes the next element off the buffer; False while it is incomplete.
        self._next: Callable[[ChunkedDecoder, bytearray, list[bytes]], bool] = (
            ChunkedDecoder._take_size
        )

    @property
    def remaining(self) -> int | None:
        """The bytes of content still to come: unknown before the end."""
        return 0 if self.finished else None

    @property
    def due(self) -> int:
        """The bytes of plain content that come next: the rest of the present chunk."""
        return self._chunk

    def pass_by(self, size: int) -> None:
        """Count `size` bytes, at most what is due, that were received without the buffer."""
        self._chunk -= size
        if self._chunk == 0:
            self._next = ChunkedDecoder._take_end_of_data

    def decode(self, buffer: bytearray) -> bytes | None:
        """Take the content of all chunks in `buffer` as one piece; None: more is needed."""
        pieces: list[bytes] = []
        while buffer and not self.finished and self._next(self, buffer, pieces):
            pass
        return b"".join(pieces) or None  # a single piece is joined without a copy

    def _take_size(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        line = _take_line(buffer)
        if line is None:
            return False
        match = CHUNK_SIZE_LINE.fullmatch(line)
        if match is None:
            raise Refusal(400, "malformed chunk size", close=True)
        size, extensions = match.groups()
        self._chunk = int(size, 16)
        self._content += self._chunk
        if extensions:
            self._count_overhead(extensions)
        self._next = ChunkedDecoder._take_data if self._chunk else ChunkedDecoder._take_trailer
        return True

    def _take_data(self, buffer: bytearray, pieces: list[bytes]) -> bool:
        piece = _take(buffer, self._chunk)
        pieces.append(piece)
        self.pass_by(len(piece))
        return True

    def _take_end_of_data(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        if not buffer.startswith(CRLF):
            if buffer == b"\r":
                return False
            raise Refusal(400, "a chunk is longer than its size", close=True)
        del buffer[: len(CRLF)]
        self._next = ChunkedDecoder._take_size
        return True

    def _take_trailer(self, buffer: bytearray, _pieces: list[bytes]) -> bool:
        """Take one line after the last chunk: a trailer field, or the empty line that ends all.

        Trailers are dropped whatever their names, so none can change the framing (RFC 9110 6.5.1).
        """
        line = _take_line(buffer)
        if line is None:
            return False
        if line == CRLF:
            self.finished = True
        elif line.endswith(CRLF) and FIELD_LINE.fullmatch(line[:-2]):
            self._count_overhead(line)
        else:
            raise Refusal(400, "malformed trailer", close=True)
        return True

    def _count_overhead(self, dropped: bytes) -> None:
        self._overhead += len(dropped)
        if self._overhead > OVERHEAD_BYTES + self._content:
            raise Refusal(400, "too many chunk extensions or trailers", close=True)


def _take(buffer: bytearray, size: int) -> bytes:
    """Take up to `size` bytes off the front, copying them once."""
    if len(buffer) <= size:
        piece = bytes(buffer)
        buffer.clear()
        return piece
    piece = memoryview(buffer)[:size].tobytes()
    # CPython moves the start of a bytearray instead of its bytes, so small pieces stay linear.
    del buffer[:size]
    return piece


def _take_line(buffer: bytearray) -> bytes | None:
    """Take one line with its LF off the front; None while it is incomplete, 400 if too long."""
    end = buffer.find(b"\n", 0, LINE_BYTES) + 1
    if end == 0:
        if len(buffer) >= LINE_BYTES:
            raise Refusal(400, f"a chunk or trailer line exceeds {LINE_BYTES} bytes", close=True)
        return None
    return _take(buffer, end)
