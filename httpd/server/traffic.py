"""What a worker's loop counts: kept in plain attributes, and put on the board now and then.

An answer out of memory takes 32 µs, so what is counted of each has to take next to nothing: an
attribute takes a quarter of the time of a cell of the board, and no lock.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from httpd.metrics import counting
from httpd.metrics.counting import ACCEPTED, DURATIONS, NANO, RECEIVED, REQUEST_DURATION, SENT
from httpd.traps import pause

if TYPE_CHECKING:
    from httpd.server.connection import Connection
    from httpd.server.loop import Loop

# Nobody looks more often than that. To look at 10,000 connections takes 1 ms: the more there are,
# the more rarely that is done.
SECONDS, SECONDS_A_CONNECTION = 0.25, 1e-4
# What is answered out of memory was asked for by a GET, see Recall.
_REPEATED = REQUEST_DURATION["GET"]


class Traffic:
    """Counts connections, bytes and repeated answers of one loop, in its thread alone."""

    __slots__ = ("_connections", "_durations", "_loop", "_scheduled", "accepted", "changed",
                 "received", "seconds", "sent")  # fmt: skip

    def __init__(self, loop: Loop, connections: Collection[Connection]) -> None:
        """Take the loop, and the connections that there are at any time."""
        self._loop = loop
        self._connections = connections
        self._scheduled = False
        self._durations: dict[int, list[int]] = {}
        self.changed = False  # whether a connection has come or gone
        self.accepted = self.received = self.sent = 0  # connections and bytes since last time
        self.seconds = 0.0  # that repeated answers took

    def durations_of(self, status: int) -> list[int]:
        """Return where to count repeated answers of that status, by the buckets of DURATIONS."""
        return self._durations.setdefault(status, [0] * (len(DURATIONS) + 1))

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
        for status, durations in self._durations.items():
            counted += _repeated(status, durations)
            durations[:] = [0] * len(durations)
        counted.append((_REPEATED.sum_place, int(self.seconds / NANO)))
        self.seconds = 0.0
        counting.merge(counted)

    async def _tell_soon(self) -> None:
        await pause(self._loop.now + SECONDS + SECONDS_A_CONNECTION * len(self._connections))
        self._scheduled = False
        self.tell()


def _repeated(status: int, durations: list[int]) -> list[tuple[int, int]]:
    place = counting.requests_place("GET", status)
    return [(place, sum(durations)), *enumerate(durations, _REPEATED.place)]
