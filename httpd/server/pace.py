"""How long a peer may still take over a body."""

from __future__ import annotations


class Pace:
    """Allows `grace` seconds of silence at a time, and `rate` bytes a second on average.

    Silence alone would let a client hold a connection for ever with one byte a second. Only time
    spent waiting for the peer counts: a slow disk of ours is no fault of theirs.
    """

    __slots__ = ("_grace", "_rate", "moved", "waited")

    def __init__(self, grace: float, rate: int) -> None:
        """Take the seconds of silence that are borne, and the bytes a second (0: any)."""
        self._grace = grace
        self._rate = rate
        self.moved = 0  # bytes so far
        self.waited = 0.0  # seconds so far

    def deadline(self, now: float) -> float:
        """Return until when the next byte must have moved, on the clock of `now`."""
        if not self._rate:
            return now + self._grace
        return now + self._grace + min(0.0, self.moved / self._rate - self.waited)
