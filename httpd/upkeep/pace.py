"""A bound on bytes a second, so that upkeep leaves the disk to those who are served."""

from __future__ import annotations

import time
from math import inf

# How much of an unused second may be caught up on: enough for a slow read, too little for a burst.
CREDIT_SECONDS = 0.1


class Pace:
    """Sleeps as long as it takes."""

    def __init__(self, rate: int | None) -> None:
        """Take bytes a second, None for no bound."""
        self._rate = rate or inf
        self._due = time.monotonic()

    def spend(self, size: int) -> None:
        """Wait until so many more bytes are within the bound."""
        now = time.monotonic()
        self._due = max(self._due, now - CREDIT_SECONDS) + size / self._rate
        if self._due > now:
            time.sleep(self._due - now)
