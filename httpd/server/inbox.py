"""What a client has sent and nobody has consumed yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpd.exchange import Disconnected, Refusal
from httpd.protocol.head import take_head
from httpd.server.body import ReceivedBody
from httpd.server.pace import Pace
from httpd.traps import DeadlineExpired, pause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from httpd.config import Settings
    from httpd.protocol.framing import Framing
    from httpd.protocol.head import Head, HeadLimits
    from httpd.server.loop import Loop
    from httpd.server.transport import Transport

# A client that has once sent more with a head than --buffer takes sends small files, most likely:
# from then on one receive takes head and content.
MOST_AHEAD = 64 * 1024
# A head is looked through anew whenever more of it has come. One that comes in more pieces than any
# network makes of it is looked at more rarely: 16 KiB that come byte by byte take 0.1 s of CPU at
# most until the head's time is over, and not 1.7 s.
MOST_PIECES = 64
PIECES_SECONDS = 0.01


class Inbox:
    """Received bytes of one connection, in order: heads and bodies, one after the other."""

    __slots__ = ("_loop", "_transport", "buffer", "size")

    def __init__(self, transport: Transport, loop: Loop, size: int) -> None:
        """Take where to receive from, and how many bytes at once, to begin with."""
        self._transport = transport
        self._loop = loop
        self.size = size  # of a receive, in bytes
        self.buffer = bytearray()

    def take_in(self) -> bytes | None:
        """Receive what has come; return it, as `Transport.receive` does, and raise as that."""
        data = self._transport.receive(self.size)
        if data:
            self.add(data)
        return data

    def add(self, data: bytes) -> None:
        """Take what was received elsewhere, by `size` bytes at most."""
        self.buffer += data
        if len(data) == self.size:
            self.size = max(self.size, MOST_AHEAD)

    async def head(self, limits: HeadLimits, deadline: float) -> Head:
        """Receive a head and take it out.

        Raise Disconnected where none was begun, and Refusal where it is bad, or late.
        """
        pieces = 0
        while (head := take_head(self.buffer, limits)) is None:
            pieces += 1
            try:
                await self._more(deadline, pieces)
            except DeadlineExpired:
                raise Refusal(408, "the head of the request took too long") from None
            if self.take_in() == b"":
                if not self.buffer.strip(b"\r\n"):  # empty lines, and no request behind them
                    raise Disconnected
                raise Refusal(400, "the connection ended within the head of the request")
        return head

    def body(
        self, framing: Framing, settings: Settings, ask: Callable[[], Awaitable[None]]
    ) -> ReceivedBody:
        """Return the content that follows a head; `ask` the client for it where it waits for that.

        What of it has been received already is taken from here, all else is received on its own.
        """
        return ReceivedBody(
            framing.decoder(),
            self.buffer,
            self._transport,
            Pace(settings.body_timeout, settings.min_rate),
            settings.max_body,
            ask if framing.expects_continue else None,
        )

    async def _more(self, deadline: float, pieces: int) -> None:
        """Wait until more can be received; raise DeadlineExpired."""
        if pieces > MOST_PIECES:
            await pause(self._loop.now + PIECES_SECONDS)
            if self._loop.now >= deadline:  # to wait for what is there already would not tell
                raise DeadlineExpired
        await self._transport.readable(deadline)
