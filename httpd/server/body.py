"""A request's content as the application reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from httpd.exchange import Disconnected, Refusal
from httpd.server.transport import PIECE, Data, Size
from httpd.traps import DeadlineExpired

if TYPE_CHECKING:
    from httpd.server.pace import Pace
    from httpd.server.transport import Transport

Content = bytes | memoryview
"""Content as it comes: memory of its own, or the front of the buffer it was to be received into."""

# Plain content of at least this size is received as a piece of its own. By way of the buffer every
# byte is copied twice more.
DIRECT = 16 * 1024
# One receive where there is framing in between. A hostile client can put a chunk into every six
# bytes, and what one receive brings is decoded in one go, while all others wait.
FRAMED = 64 * 1024


class Decoder(Protocol):
    """Takes the content out of its framing; see `httpd.protocol.framing`."""

    finished: bool

    @property
    def length(self) -> int | None:
        """The declared length of the content in bytes, None when chunked."""

    @property
    def remaining(self) -> int | None:
        """The bytes of content that are known to come, None when chunked."""

    @property
    def due(self) -> int:
        """The bytes of plain content that come next, with no framing in between."""

    def decode(self, buffer: bytearray) -> bytes | None:
        """Take the next piece of content off the front of `buffer`; None: more is needed."""

    def pass_by(self, size: int) -> None:
        """Count `size` bytes, at most what is due, that were received without the buffer."""


class ReceivedBody:
    """Pulls the content off the transport piece by piece, as fast as the application asks.

    What has not been asked for stays in the kernel's buffer and, with that full, at the client:
    this is the back-pressure of an upload.
    """

    __slots__ = ("_ask", "_broken", "_buffer", "_decoder", "_left", "_limit", "_pace", "_received",
                 "_transport")  # fmt: skip

    def __init__(
        self,
        decoder: Decoder,
        buffer: bytearray,
        transport: Transport,
        pace: Pace,
        limit: int,
        ask: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Take the decoder, what has arrived already, and where more comes from, at what pace.

        `limit` is the largest content that is taken, in bytes; `ask` asks for the content of a
        client that waits for `100 Continue`, and is None for any other.
        """
        self._decoder = decoder
        self._buffer = buffer
        self._transport = transport
        self._pace = pace
        self._limit = limit
        # Who has begun to send does not wait to be asked (RFC 9110 section 10.1.1).
        self._ask = None if buffer else ask
        self._broken = False
        self._left = b""  # content that `readinto` has found no room for
        self._received = 0  # bytes of content so far

    @property
    def length(self) -> int | None:
        """The declared length in bytes; None when chunked."""
        return self._decoder.length

    @property
    def finished(self) -> bool:
        """Whether the last byte has been read: what follows is another request."""
        return self._decoder.finished

    def skippable(self, most: int) -> bool:
        """Tell whether at most `most` bytes come, for certain, before the next request."""
        if self.finished:
            return True
        remaining = self._decoder.remaining
        # A client that has not been asked for its content may never send it (RFC 9110 10.1.1).
        withheld = self._ask is not None
        return not self._broken and not withheld and remaining is not None and remaining <= most

    async def skip(self) -> bool:
        """Read and drop the rest; tell whether it has come to its end."""
        try:
            while await self._next(None) is not None:
                pass
        except Refusal:
            return False  # the response to this request is out already
        return True

    def __aiter__(self) -> ReceivedBody:
        """Return itself: there is one pass."""
        return self

    async def read(self, most: int) -> bytes | None:
        """Return all of the content where it is declared to be at most `most` bytes, else None."""
        length = self._decoder.length
        if length is None or length > most:
            return None
        if 0 < length <= min(len(self._buffer), self._limit):  # it has come with the head
            return self._decoder.decode(self._buffer)
        return b"".join([piece async for piece in self])

    async def __anext__(self) -> bytes:
        """Return the next piece; raise Refusal or Disconnected where none can come."""
        piece = await self._checked(None)
        if piece is None:
            raise StopAsyncIteration
        return bytes(piece)  # no copy: without a buffer it is bytes

    async def readinto(self, buffer: memoryview) -> int:
        """Receive the next content into `buffer`; return how many bytes, 0 at its end.

        Raise Refusal or Disconnected where none can come.
        """
        piece = self._left or await self._checked(buffer)
        if isinstance(piece, bytes):  # it had framing around it
            self._left = piece[len(buffer) :]
            piece = piece[: len(buffer)]
            buffer[: len(piece)] = piece
        return len(piece or b"")

    async def _checked(self, buffer: memoryview | None) -> Content | None:
        try:
            self._check_size(self._decoder.length or 0)
            piece = await self._next(buffer)
            self._received += len(piece or b"")
            self._check_size(self._received)
        except (Refusal, Disconnected):
            self._broken = True
            raise
        return piece

    async def _next(self, buffer: memoryview | None) -> Content | None:
        while not self._decoder.finished:
            piece = self._decoder.decode(self._buffer) or await self._more(buffer)
            if piece:
                return piece
        return None

    async def _more(self, buffer: memoryview | None) -> Content | None:
        """Receive more to decode; or, of what is plain content, return it as it comes.

        The latter in the `buffer`, if there is one.
        """
        if self._decoder.finished:
            return None
        if self._ask is not None:
            await self._ask()
            self._ask = None
        due = self._decoder.due
        data: Content
        if self._buffer or due < DIRECT:
            self._buffer += await self._receive(self._transport.receive, FRAMED)
            return None
        if buffer is None:
            data = await self._receive(self._transport.receive, min(due, PIECE))
        else:
            data = await self._receive(self._transport.receive_into, buffer[:due])
        self._decoder.pass_by(len(data))
        return data

    async def _receive(self, receive: Callable[[Size], Data | None], most: Size) -> Data:
        try:
            data = await self._transport.at_pace(self._pace, receive, most)
        except DeadlineExpired:
            raise Refusal(408, "the content came too slowly", close=True) from None
        if not data:
            raise Refusal(400, "the connection ended within the content", close=True)
        return data

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise Refusal(413, f"the content is larger than the {self._limit} bytes taken here")
