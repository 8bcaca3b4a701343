"""A client's socket: the only place that receives, sends and closes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from fcntl import ioctl
from socket import AF_UNIX, IPPROTO_TCP, MSG_MORE, SHUT_WR, TCP_NOTSENT_LOWAT, socket
from struct import Struct
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, TypeVar

from loguru import logger

from httpd.exchange import Disconnected, Response, Span
from httpd.server.pagecache import fill, holds
from httpd.traps import DeadlineExpired, in_pool, readable, writable

if TYPE_CHECKING:
    from httpd.server.loop import Loop
    from httpd.server.pace import Pace
    from httpd.server.traffic import Traffic
    from httpd.traps import Attempt

# One receive of a body. Larger ones hash no faster, and every upload holds a few of them.
PIECE = 256 * 1024
# What one sendfile may take of a turn, so that a fast reader of a big file holds up nobody.
SENDFILE_TURN = 1024 * 1024
# What the kernel may hold of a file beyond what is on its way (tcp(7), TCP_NOTSENT_LOWAT). With its
# usual megabytes, some hundred clients that read nothing would use up the machine's TCP memory. One
# that has taken so much in one go is a reader, and gets the rest without that bound, which would
# cost a large download half as much CPU again.
UNPROVEN_UNSENT = 256 * 1024
PROVEN_BYTES = 8 * 1024 * 1024
UNBOUNDED = 0x7FFFFFFF
# After a refusal the client may still be sending: what it sends is dropped within these bounds, so
# that it reads the answer and not the reset that closing with unread data causes (RFC 9112 9.6).
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0

_INT = Struct("i")

Size = TypeVar("Size")
Data = TypeVar("Data", bytes, memoryview)


class Transport:
    """Bytes in and out of one non-blocking stream socket, with deadlines."""

    __slots__ = ("_descriptor", "_loop", "_socket", "accepted", "traffic")

    def __init__(self, client: socket, loop: Loop, traffic: Traffic) -> None:
        """Take a connected, non-blocking socket, closed by `close` only; count its `traffic`."""
        self._socket = client
        self._descriptor = client.fileno()
        self._loop = loop
        self.traffic = traffic
        self.accepted = 0  # bytes that the kernel has taken for sending, in all

    def readable(self, deadline: float, attempt: Attempt | None = None) -> Awaitable[None]:
        """Wait until there is something to receive, see `traps.readable`; raise DeadlineExpired."""
        return readable(self._descriptor, deadline, attempt)

    def receive(self, size: int) -> bytes | None:
        """Return up to `size` bytes, b"" at the client's end, None where nothing has come yet.

        Raise Disconnected where the connection is broken.
        """
        try:
            data = self._socket.recv(size)
            self.traffic.received += len(data)
            return data
        except BlockingIOError:
            return None
        except OSError as error:
            raise Disconnected from error

    def receive_into(self, buffer: memoryview) -> memoryview | None:
        """Return the front of `buffer` with what was received, else as `receive`."""
        try:
            size = self._socket.recv_into(buffer)
            self.traffic.received += size
            return buffer[:size]
        except BlockingIOError:
            return None
        except OSError as error:
            raise Disconnected from error

    async def at_pace(self, pace: Pace, receive: Callable[[Size], Data | None], most: Size) -> Data:
        """Wait for what `receive`, one of the two above, returns; raise DeadlineExpired.

        The first time what has come already is taken at once: a small body comes with its head, and
        asking epoll costs a turn of the loop. Not so later, or one who sends fast had every turn.
        """
        data = receive(most) if pace.moved == 0 else None
        while data is None:
            begun = self._loop.now
            await readable(self._descriptor, pace.deadline(begun))
            pace.waited += self._loop.now - begun
            data = receive(most)
        pace.moved += len(data)
        return data

    def send_some(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Send what the kernel takes at once; return how much. Raises Disconnected."""
        try:
            sent = self._socket.send(data, flags)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Disconnected from error
        self.accepted += sent
        self.traffic.sent += sent
        return sent

    async def send(self, data: bytes | memoryview, pace: Pace, *, more: bool = False) -> None:
        """Send all of `data`; `more` says that the rest of the message follows at once.

        Raise Disconnected where the client is gone or does not keep pace.
        """
        rest = data
        while True:
            sent = self.send_some(rest, MSG_MORE if more else 0)
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]
            await self._writable(pace)

    async def send_all(self, lead: bytes, response: Response, pace: Pace) -> None:
        """Send a response's head, given as bytes, and its content; raise as `send` does."""
        content = response.content
        if isinstance(content, bytes):
            await self.send(lead + content, pace)
            return
        await self.send(lead, pace, more=response.length > 0)
        for part in content:
            if isinstance(part, Span):
                await self.send_span(part, pace)
            else:
                await self.send(part, pace, more=part is not content[-1])

    async def send_span(self, span: Span, pace: Pace) -> None:
        """Send a part of a file from the page cache; raise Disconnected as `send` does.

        A file that cannot be read to its end breaks the connection off: the head has promised its
        length, and anything else would pass for a whole file.
        """
        offset, end = span.offset, span.offset + span.length
        proof = offset + PROVEN_BYTES
        bounded = span.length > UNPROVEN_UNSENT and self._socket.family != AF_UNIX
        if bounded:
            self._bound_unsent(UNPROVEN_UNSENT)
        file = span.source.fileno()
        while offset < end:
            count = min(end - offset, SENDFILE_TURN)
            if not holds(file, offset, count):
                await self._fetch(file, offset, count)
            offset += self._sendfile_some(file, offset, count)
            if bounded and offset >= min(proof, end):
                self._bound_unsent(UNBOUNDED)
                bounded = False
            if offset < end:
                await self._writable(pace)

    async def linger(self) -> None:
        """Tell the client that nothing more comes, and drop what it still sends, within bounds."""
        try:
            self._socket.shutdown(SHUT_WR)
        except OSError as error:
            raise Disconnected from error
        deadline = self._loop.now + LINGER_SECONDS
        dropped = 0
        while dropped < LINGER_BYTES:
            await self.readable(deadline)
            data = self.receive(PIECE)
            if data == b"":
                return
            dropped += len(data or b"")

    def close(self) -> None:
        """Close the socket."""
        self._loop.forget(self._descriptor)
        self._socket.close()

    async def _fetch(self, file: int, offset: int, count: int) -> None:
        """Have bytes of a file brought into memory; raise Disconnected where that fails."""
        try:
            await in_pool(fill, file, offset, count)
        except OSError as error:
            logger.error("a file cannot be read on: {}", error)
            raise Disconnected from error

    def _sendfile_some(self, file: int, offset: int, count: int) -> int:
        try:
            sent = os.sendfile(self._descriptor, file, offset, count)
        except BlockingIOError:
            return 0
        except (ConnectionError, TimeoutError) as error:
            raise Disconnected from error
        except OSError as error:
            logger.error("a file cannot be read on: {}", error)
            raise Disconnected from error
        if sent == 0:
            logger.error("a file is shorter than it was when its download began")
            raise Disconnected
        self.accepted += sent
        self.traffic.sent += sent
        return sent

    def _bound_unsent(self, size: int) -> None:
        self._socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, size)

    async def _writable(self, pace: Pace) -> None:
        """Wait until the kernel takes more; raise Disconnected at a client that stops reading.

        The kernel calls a socket writable when a third of its buffer is free, which at a slow
        client takes far longer than the grace between two bytes. So what counts as moved is what
        has left the buffer (SIOCOUTQ, tcp(7)), and a wait goes on for as long as that grows.
        """
        ready = False
        while not ready:
            begun, unsent = self._loop.now, self._unsent()
            try:
                await writable(self._descriptor, pace.deadline(begun))
                ready = True
            except DeadlineExpired:
                pass
            moved = unsent - self._unsent()
            pace.moved += moved
            pace.waited += self._loop.now - begun
            stopped = not ready and moved <= 0
            if stopped or pace.deadline(self._loop.now) <= self._loop.now:
                raise Disconnected

    def _unsent(self) -> int:
        (queued,) = _INT.unpack(ioctl(self._descriptor, TIOCOUTQ, bytes(_INT.size)))
        return int(queued)
