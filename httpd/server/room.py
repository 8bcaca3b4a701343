"""How many connections a worker may have, and which of them make room for others."""

from __future__ import annotations

from heapq import nlargest
from resource import RLIMIT_NOFILE, getrlimit
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from httpd.config import Settings
    from httpd.server.connection import Connection

# Descriptors besides those of connections: the loop's, the logs', the catalog's, and those that a
# thread of the pool has open for a moment, in folders and databases.
RESERVED = 32
RESERVED_A_THREAD = 8
# The connection itself, and the file that is sent from or staged.
DESCRIPTORS_A_CONNECTION = 2
# Those that go at a time: to look for them takes a millisecond for some thousand connections.
LEAVE_AT_ONCE = 256
# Whoever has connected, or has had an answer, this very moment may be about to ask.
LEAST_IDLE_SECONDS = 1.0


class Room:
    """A worker's share of the connections that the daemon may have.

    What is over waits in the queue of the listener, which all workers take from, until one of them
    has room: to the client the daemon is slow, and nothing is refused. To answer 503 would cost the
    most just when there is the least to spare.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the settings; the limit of open files is looked at by now."""
        share = -(-settings.max_connections // settings.workers)
        reserved = RESERVED + RESERVED_A_THREAD * settings.threads
        files = getrlimit(RLIMIT_NOFILE)[0]
        allowed = max(1, (files - reserved) // DESCRIPTORS_A_CONNECTION)
        self.most = min(share, allowed)
        self._look_at = 0.0
        if allowed < share:
            logger.info(
                "a worker has {} connections at most, not {}: it may open no more than {} files",
                allowed, share, files,
            )  # fmt: skip

    def leaving(self, connections: Iterable[Connection], now: float) -> list[Connection]:
        """Return those that have waited for a request for the longest; none if none has long."""
        if now < self._look_at:
            return []
        idle = nlargest(LEAVE_AT_ONCE, connections, lambda each: each.idle_seconds())
        found = [each for each in idle if each.idle_seconds() >= LEAST_IDLE_SECONDS]
        if not found:
            self._look_at = now + LEAST_IDLE_SECONDS
        return found
