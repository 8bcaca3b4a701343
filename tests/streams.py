"""What the protocol floor makes of a client's bytes, without a connection.

A stream is read as `httpd.server.connection` reads it, with nobody behind it: every request is
described instead of served. The one difference is time: here all content is taken as it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

from httpd.exchange import Refusal
from httpd.protocol.framing import ChunkedDecoder, Framing, LengthDecoder, framing_of
from httpd.protocol.head import Head, HeadLimits, take_head
from httpd.protocol.target import parse_target
from httpd.server.connection import SKIP_BYTES

# Small enough for a case of the corpus to break them, and to be sent byte by byte.
LIMITS = HeadLimits(target=200, head=1000, fields=20)
FLAGS = ("--max-target=200", "--max-head=1000", "--max-fields=20")

OPEN, CLOSED, MORE = "open", "closed", "more"


class Reading(NamedTuple):
    """What came of a stream."""

    answers: tuple[str, ...]  # to each request: how it is described, or the status it is refused by
    end: str  # OPEN for another request, CLOSED, or MORE is needed for the request that has begun


def describe(method: str, path: str, query: tuple[tuple[str, str], ...], content: bytes) -> str:
    """Return a request in one line: what a handler is told of it."""
    pairs = "&".join(f"{name}={value}" for name, value in query)
    target = f"{path}?{pairs}" if query else path
    return f"{method} {target} {content.decode('latin-1')}".removesuffix(" ")


class Stream:
    """Reads the requests of one client."""

    def __init__(self, limits: HeadLimits = LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._requests = self._read()
        self._closed = False
        self.answers: list[str] = []
        next(self._requests)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; what comes after the end of the connection is dropped."""
        if self._closed:
            return
        self._buffer += piece
        try:
            next(self._requests)
        except StopIteration:
            self._closed = True
        except Refusal as refusal:
            self._closed = True
            self.answers.append(str(refusal.status))

    @property
    def reading(self) -> Reading:
        """What has come of it so far."""
        end = CLOSED if self._closed else OPEN if self._between else MORE
        return Reading(tuple(self.answers), end)

    @property
    def _between(self) -> bool:
        """Whether no request has begun: empty lines are none yet."""
        return not self._waits_for_content and not self._buffer.strip(b"\r\n")

    def _read(self) -> Iterator[None]:
        """Read until the end of the connection; yield where more is needed."""
        self._waits_for_content = False
        keeps = True
        while keeps:
            while (head := take_head(self._buffer, self._limits)) is None:
                yield
            keeps = head.keeps_alive
            yield from self._read_request(head)

    def _read_request(self, head: Head) -> Iterator[None]:
        framing = framing_of(head)
        try:
            path, query = parse_target(head.target)
        except Refusal as refusal:
            if not _is_skippable(framing):
                raise
            yield from self._read_content(framing, bytearray())
            self.answers.append(str(refusal.status))
            return
        content = bytearray()
        yield from self._read_content(framing, content)
        self.answers.append(describe(head.method, path, query, bytes(content)))

    def _read_content(self, framing: Framing, content: bytearray) -> Iterator[None]:
        decoder: LengthDecoder | ChunkedDecoder = framing.decoder()
        self._waits_for_content = True
        while not decoder.finished:
            piece = decoder.decode(self._buffer)
            if piece is not None:
                content += piece
            elif not decoder.finished:
                yield
        self._waits_for_content = False


def _is_skippable(framing: Framing) -> bool:
    """Tell whether the content of a request that is refused is read over."""
    length = framing.length
    return length is not None and length <= SKIP_BYTES and not framing.expects_continue


def read_stream(pieces: Iterable[bytes], limits: HeadLimits = LIMITS) -> Reading:
    """Return what comes of bytes that arrive in these pieces."""
    stream = Stream(limits)
    for piece in pieces:
        stream.feed(piece)
    return stream.reading


def bytewise(data: bytes) -> list[bytes]:
    """Return the bytes one by one."""
    return [data[index : index + 1] for index in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the pieces that the cuts at these places make."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def random_cuts(data: bytes, random: Random, most: int = 8) -> list[bytes]:
    """Return the pieces that a few cuts anywhere make."""
    return cut(data, [random.randrange(len(data) + 1) for _ in range(random.randint(1, most))])
