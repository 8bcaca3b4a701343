"""What a worker's loop counts: kept in plain attributes, and put on the board now and then.

An answer out of memory takes 32 µs, so what is counted of each has to take next to nothing: an
attribute takes a quarter of the time of a cell of the board, and no lock. Measured: 3 µs less for
any other request, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from typing import TYPE_CHECKING

from httpd.metrics import counting
from httpd.metrics.counting import (
    ACCEPTED,
    DURATIONS,
    METHODS,
    NANO,
    RECEIVED,
    REQUEST_DURATION,
    SENT,
    requests_place,
)
from httpd.traps import pause

if TYPE_CHECKING:
    from httpd.server.connection import Connection
    from httpd.server.loop import Loop

# Nobody looks more often than that. To look at 10,000 connections takes 1 ms: the more there are,
# the more rarely that is done.
SECONDS, SECONDS_A_CONNECTION = 0.25, 1e-4


class Answered:
    """The answers of one status to one method: how many took how long."""

    __slots__ = ("_buckets", "_histogram", "_requests", "_seconds")

    def __init__(self, method: str, status: int) -> None:
        """Take the method, one of METHODS, and the status; begin with none."""
        self._requests = requests_place(method, status)
        self._histogram = REQUEST_DURATION[method]
        self._buckets = [0] * (len(DURATIONS) + 1)
        self._seconds = 0.0  # all of them together

    def add(self, seconds: float) -> None:
        """Count one, from its request's first byte to the last one sent."""
        self._buckets[bisect_left(DURATIONS, seconds)] += 1
        self._seconds += seconds

    def take(self) -> list[tuple[int, int]]:
        """Return what is to be added to which cells of the board, and begin anew."""
        counted = [
            (self._requests, sum(self._buckets)),
            *enumerate(self._buckets, self._histogram.place),
            (self._histogram.sum_place, round(self._seconds / NANO)),
        ]
        self._buckets = [0] * len(self._buckets)
        self._seconds = 0.0
        return counted


class Traffic:
    """Counts connections, bytes and answers of one loop, in its thread alone."""

    __slots__ = ("_answered", "_connections", "_loop", "_scheduled", "accepted", "changed",
                 "received", "sent")  # fmt: skip

    def __init__(self, loop: Loop, connections: Collection[Connection]) -> None:
        """Take the loop, and the connections that there are at any time."""
        self._loop = loop
        self._connections = connections
        self._scheduled = False
        self._answered: dict[tuple[str, int], Answered] = {}
        self.changed = False  # whether a connection has come or gone
        self.accepted = self.received = self.sent = 0  # connections and bytes since last time

    def answered(self, method: str, status: int) -> Answered:
        """Return where to count answers of that status to that method."""
        key = method if method in METHODS else "other", status
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = Answered(*key)
        return found

    def after_turn(self) -> None:
        """See to it that what there is to tell is told soon; an idle loop is left to sleep."""
        if not self._scheduled and (self.received or self.sent or self.changed):
            self._scheduled = True
            self._loop.spawn(self._tell_soon())

    def tell(self) -> None:
        """Put it on the board."""
        states = [connection.state for connection in self._connections]
        counting.connections([states.count(state) for state in counting.STATES])
        counted = [(RECEIVED, self.received), (SENT, self.sent), (ACCEPTED, self.accepted)]
        self.accepted = self.received = self.sent = 0
        self.changed = False
        for answered in self._answered.values():
            counted += answered.take()
        counting.merge(counted)

    async def _tell_soon(self) -> None:
        await pause(self._loop.now + SECONDS + SECONDS_A_CONNECTION * len(self._connections))
        self._scheduled = False
        self.tell()
