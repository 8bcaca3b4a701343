"""The numbers of all processes, added up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from httpd.metrics import counting
from httpd.metrics.counting import (
    BLOB_BYTES,
    BLOBS,
    COUNTED_AT,
    COUNTED_BLOBS,
    COUNTED_BYTES,
    GAUGES,
    HEAD_CELLS,
    PREFIXES,
    SERVING,
    STARTED_AT,
    Histogram,
)


class Sums:
    """What the daemon has counted, at one moment."""

    def __init__(self) -> None:
        """Add it up now."""
        board = counting.board
        seats = [] if board is None else [(cells.tolist(), pid) for cells, pid in board.seats()]
        seats = seats or [(list(counting._own), os.getpid())]
        self._head: list[int] = [0] * HEAD_CELLS if board is None else board.head.tolist()
        self._totals: list[int] = [
            sum(column) for column in zip(*(cells for cells, _ in seats), strict=True)
        ]
        living = [cells for cells, pid in seats if pid]
        for gauge in GAUGES:
            self._totals[gauge] = sum(cells[gauge] for cells in living)

    @property
    def workers(self) -> int:
        """The number of workers that live."""
        return self._totals[SERVING]

    @property
    def started_at(self) -> float:
        """When the daemon has started, in seconds since the epoch."""
        return self._head[STARTED_AT] / 1000

    @property
    def stored(self) -> tuple[int, int] | None:
        """The number of blobs and their bytes; None while they have not been counted."""
        if not self._head[COUNTED_AT]:
            return None
        blobs = self._head[COUNTED_BLOBS] + sum(self._totals[BLOBS : BLOBS + PREFIXES])
        size = self._head[COUNTED_BYTES] + sum(self._totals[BLOB_BYTES : BLOB_BYTES + PREFIXES])
        return blobs, size

    def __getitem__(self, place: int) -> int:
        """Return the sum of a cell."""
        return self._totals[place]

    def histogram(self, histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
        """Return the buckets, each with its bound and all that is not above it, and the sum."""
        buckets: list[tuple[str, float]] = []
        seen = 0
        for offset, bound in enumerate((*histogram.bounds, float("inf"))):
            seen += self._totals[histogram.place + offset]
            buckets.append((f"{bound:g}".replace("inf", "+Inf"), seen))
        return buckets, self._totals[histogram.sum_place] * histogram.unit


class Change(NamedTuple):
    """How much a prefix folder of the store has grown since the daemon started."""

    blobs: int
    bytes: int


def change_of(prefix: int) -> Change:
    """Return what all processes have counted of a prefix folder."""
    board = counting.board
    seats = [] if board is None else [seat.cells for seat in board.seats()]
    return Change(
        sum(cells[BLOBS + prefix] for cells in seats),
        sum(cells[BLOB_BYTES + prefix] for cells in seats),
    )


@contextmanager
def census(every: float) -> Iterator[bool]:
    """Count the store in the body, where nobody else does or has within `every` seconds."""
    board = counting.board
    if board is None:
        yield False
        return
    with board.alone() as alone:
        counted_at = board.head[COUNTED_AT] / 1000
        yield alone and not (counted_at and time.monotonic() < counted_at + every)


def note_census(blobs: int, size: int) -> None:
    """Say what is in the store beside what the processes have counted of it."""
    if counting.board is not None:
        head = counting.board.head
        head[COUNTED_BLOBS], head[COUNTED_BYTES] = blobs, size
        head[COUNTED_AT] = time.monotonic_ns() // 1_000_000
