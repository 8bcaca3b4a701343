"""The listening sockets: accept connections, and stop accepting."""

from __future__ import annotations

from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from select import POLLIN, poll
from socket import AF_UNIX, IPPROTO_TCP, TCP_NODELAY, socket
from typing import TYPE_CHECKING, Any

from loguru import logger

from httpd.protocol.head import HeadLimits
from httpd.server.accesslog import AccessLog
from httpd.server.clients import COMPLAINT_SECONDS, Clients
from httpd.server.clock import Clock
from httpd.server.connection import Connection, Handler
from httpd.server.recall import Recall
from httpd.server.request_id import RequestIds
from httpd.server.room import Room
from httpd.server.tally import Tally
from httpd.server.traffic import Traffic
from httpd.server.transport import Transport
from httpd.traps import acceptable, pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from httpd.config import Settings
    from httpd.server.loop import Loop, Task

# A burst of connects is taken in a few turns, and the clients already here get theirs in between.
ACCEPTS_A_TURN = 64
# A drain takes all that wait; no queue is longer, as --listen ends there.
ACCEPTS_AT_THE_END = 65535
# Out of descriptors or memory: nothing gets better by trying at once again.
SHORTAGE = {EMFILE, ENFILE, ENOBUFS, ENOMEM}
SHORTAGE_SECONDS = 0.25
# How long a full worker leaves those who wait to the others, before it closes any connection.
LOOK_SECONDS = 0.05


class Server:
    """Accepts on every listener and keeps the set of its connections.

    All workers accept from the same sockets (EPOLLEXCLUSIVE wakes one or a few of them), so that
    a worker that dies takes no queued connection with it, as it would with SO_REUSEPORT.
    """

    def __init__(
        self,
        listeners: Sequence[socket],
        handle: Handler,
        settings: Settings,
        loop: Loop,
        tally: Tally,
    ) -> None:
        """Take bound, listening, non-blocking sockets, the application, and the workers' tally."""
        self._listeners = listeners
        self._handle = handle
        self._settings = settings
        self._loop = loop
        self._clock = Clock()
        self._access = AccessLog(self._clock, settings.access_log)
        self._limits = HeadLimits(settings.max_target, settings.max_head, settings.max_fields)
        self._tally = tally
        self._clients = Clients(settings, tally, lambda: loop.now)
        self._room = Room(settings)
        self._quiet_until = 0.0  # nothing is told of a shortage before that
        self._full: Task | None = None  # while no more is accepted: what makes room
        self.draining = False
        self.connections: set[Connection] = set()
        self._traffic = Traffic(loop, self.connections)
        self._recall = Recall(self._traffic)
        self._ids = RequestIds()

    def start(self) -> None:
        """Begin to accept."""
        self._loop.on_wake.append(self._clock.tick)
        self._loop.after_turn += [self._access.flush, self._traffic.after_turn]
        self._tally.claim()
        for listener in self._listeners:
            if listener.family != AF_UNIX:
                # Inherited by what is accepted (tcp(7)). Every response leaves in whole pieces, and
                # Nagle's algorithm would hold back the last one until the client acknowledges.
                listener.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self._admit()

    def drain(self, *, now: bool, accept: bool = True) -> None:
        """Accept no more, finish what is under way, then let the loop stop.

        `accept`: whether to take those that wait to be accepted, because nobody else will.

        `now` closes the connections that wait for a request. Without it they stay until their
        next response, which announces the close, or their idle deadline: no request is lost.
        """
        if not self.draining:
            self.draining = True
            self._hold_no_more()
            for listener in self._listeners:
                if accept:
                    self._accept_waiting(listener, ACCEPTS_AT_THE_END)
                self._loop.forget(listener.fileno())
                listener.close()
            self._listeners = ()
        for connection in list(self.connections):
            connection.drain(now=now)
        self._stop_when_empty()

    def account(self) -> None:
        """Put what was counted where others see it; to be called at the end, too."""
        self._traffic.tell()

    def _admit(self) -> None:
        for listener in self._listeners:
            self._loop.spawn(self._accept(listener), vital=True)

    async def _accept(self, listener: socket) -> None:
        while not self.draining and self._full is None:
            await acceptable(listener.fileno())
            if not self._accept_waiting(listener, ACCEPTS_A_TURN):
                await pause(self._loop.now + SHORTAGE_SECONDS)

    def _hold(self) -> None:
        """Accept no more until there is room.

        The listeners are let go of at once: a worker that sleeps on one it does not accept from
        would be woken for a connection in the place of one that has room (EPOLLEXCLUSIVE).
        """
        for listener in self._listeners:
            self._loop.forget(listener.fileno())
        self._full = self._loop.spawn(self._make_room())

    async def _make_room(self) -> None:
        """Close what has been idle for long, as a client may find at any time (RFC 9112 9.5).

        Only while no worker has room, and somebody waits.
        """
        while True:
            await pause(self._loop.now + LOOK_SECONDS)
            self._tally.forget_the_dead()
            everybody_is_full = self._tally.total >= self._room.most * self._settings.workers
            if everybody_is_full and _is_somebody_waiting(self._listeners):
                for connection in self._room.leaving(self.connections, self._loop.now):
                    connection.leave()

    def _hold_no_more(self) -> bool:
        """Tell whether it was full."""
        full, self._full = self._full, None
        if full is not None:
            self._loop.drop(full)
        return full is not None

    def _accept_waiting(self, listener: socket, most: int) -> bool:
        """Accept what waits, up to `most` and while there is room; tell of no shortage."""
        for _ in range(min(most, self._room.most - len(self.connections))):
            try:
                self._welcome(*listener.accept())
            except BlockingIOError:
                break
            except MemoryError as error:
                return self._note_shortage(error)
            except OSError as error:
                if error.errno in SHORTAGE:
                    return self._note_shortage(error)
                continue  # this client has left already (accept(2), ECONNABORTED and others)
        if len(self.connections) >= self._room.most and not self.draining:
            self._hold()
        return True

    def _welcome(self, client: socket, address: Any) -> None:
        client.setblocking(False)
        visitor = self._clients.arrive(address)
        if visitor is None:
            client.close()
            return
        connection = Connection(
            Transport(client, self._loop, self._traffic),
            visitor,
            self._handle,
            self._settings,
            self._limits,
            self._loop,
            self._clock,
            self._access,
            self._recall,
            self._ids.for_connection(),
            self._closed,
        )
        connection.draining |= self.draining  # it may answer before it is told
        self.connections.add(connection)
        self._traffic.accepted += 1
        self._traffic.changed = True
        self._tally.add_to_all(1)
        connection.task = self._loop.spawn(connection.serve())

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._traffic.changed = True
        self._tally.add_to_all(-1)
        if self._hold_no_more():
            self._admit()
        self._stop_when_empty()

    def _stop_when_empty(self) -> None:
        # Not before the last one is accepted, however soon those before it have left.
        if self.draining and not self._listeners and not self.connections:
            self._loop.stop()

    def _note_shortage(self, error: OSError | MemoryError) -> bool:
        # While it lasts, each client that leaves makes room for one more: that is no end of it.
        if self._loop.now >= self._quiet_until:
            self._quiet_until = self._loop.now + COMPLAINT_SECONDS
            reason = str(error) or "out of memory"
            logger.error("cannot accept connections for now: {}", reason)
        return False


def _is_somebody_waiting(listeners: Sequence[socket]) -> bool:
    """Tell whether a connection could be accepted now."""
    waiting = poll()
    for listener in listeners:
        waiting.register(listener, POLLIN)
    return bool(waiting.poll(0))
