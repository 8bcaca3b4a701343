"""What is counted, and how: every process of the daemon counts here, for itself.

`open_board` makes the shared memory, once, in the master; every process that counts calls `join`
after its fork. Until then, and in a command that is no daemon, what is counted goes nowhere.

All functions may be called from any thread. None blocks, or raises what is not said.
"""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_left
from collections.abc import MutableSequence, Sequence
from http import HTTPStatus
from itertools import count
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from loguru import logger

from httpd.metrics.board import Board, Cells

METHODS = ("GET", "POST", "DELETE", "other")
# 499: the client had left before its answer. What is none of these is counted with the last one.
STATUSES = (*(status.value for status in HTTPStatus), 499, 599)
DOORS = ("hash", "id")
STATES = ("idle", "receiving", "sending")
PREFIXES = 256

_places = count()


def _cells(number: int = 1) -> int:
    """Reserve cells of a seat; return the first one's place."""
    first = next(_places)
    for _ in range(number - 1):
        next(_places)
    return first


class Histogram(NamedTuple):
    """Where observations are counted: a cell a bucket, the last without a bound, then their sum."""

    bounds: tuple[float, ...]  # upper ones, each included
    place: int
    unit: float  # what the sum is counted in

    @property
    def sum_place(self) -> int:
        """Return the cell of the sum."""
        return self.place + len(self.bounds) + 1


def _histogram(bounds: tuple[float, ...], unit: float) -> Histogram:
    return Histogram(bounds, _cells(len(bounds) + 2), unit)


NANO = 1e-9
# From an answer out of memory, some 40 µs, to the upload of a big file.
DURATIONS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
FLUSHES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

# Places within a seat.
CONNECTIONS = _cells(len(STATES))  # gauges
SERVING = _cells()  # gauge: 1 while a worker sits there
ACCEPTED = _cells()  # connections
RECEIVED, SENT = _cells(), _cells()  # bytes
WORKER_RESTARTS = _cells()
REQUESTS = _cells(len(METHODS) * len(STATUSES))
UPLOADS = _cells(len(DOORS))
UPLOAD_BYTES = _cells()
DEDUP_HITS, DEDUP_BYTES = _cells(), _cells()
BLOBS = _cells(PREFIXES)  # more (or, below nought, fewer) than at the first count
BLOB_BYTES = _cells(PREFIXES)
REQUEST_DURATION = {method: _histogram(DURATIONS, NANO) for method in METHODS}
FLUSH_DURATION = _histogram(FLUSHES, NANO)
FLUSH_BATCH = _histogram(BATCHES, 1.0)
SEAT_CELLS = _cells()
GAUGES = (*range(CONNECTIONS, CONNECTIONS + len(STATES)), SERVING)

# Places in the head, which is the daemon's.
STARTED_AT = 0  # milliseconds since the epoch
COUNTED_AT = 1  # when the store was last counted, milliseconds on the monotonic clock; 0: never
COUNTED_BLOBS, COUNTED_BYTES = 2, 3  # what was there, less what the seats say of it
LAYOUT = 4  # what tells this order of cells from that of another version
HEAD_CELLS = 5

_LAYOUT = crc32(
    repr((METHODS, STATUSES, DOORS, STATES, PREFIXES, DURATIONS, FLUSHES, BATCHES)).encode()
)
_STATUS_PLACES = {status: place for place, status in enumerate(STATUSES)}
_METHOD_PLACES = {method: place * len(STATUSES) for place, method in enumerate(METHODS)}

_lock = Lock()  # of this process's cells: a sum is a read and a write
_own: MutableSequence[int] | Cells = array("q", bytes(8 * SEAT_CELLS))
board: Board | None = None


def open_board(left: int | None = None) -> None:
    """Begin to count for a daemon, in its master. Raises OSError.

    `left`: descriptor of the board of the master's earlier self, whose workers still count there.
    Its numbers go on, unless another version counts other things.
    """
    global board
    board = _found(left)
    if board is None:
        board = Board(HEAD_CELLS, SEAT_CELLS, GAUGES)
        board.head[STARTED_AT] = time.time_ns() // 1_000_000
        board.head[LAYOUT] = _LAYOUT
    join()


def _found(left: int | None) -> Board | None:
    if left is None:
        return None
    try:
        found = Board(HEAD_CELLS, SEAT_CELLS, GAUGES, left)
    except ValueError:
        return None
    return found if found.head[LAYOUT] == _LAYOUT else None


def descriptor() -> int:
    """Return the descriptor of the board, for `open_board` in the master's next self."""
    if board is None:
        raise RuntimeError("there is no board yet")
    return board.fileno()


def join(*, serving: bool = False) -> None:
    """Count on the daemon's board from now on, in a process that was forked; `serving`: a worker.

    Where there is no seat left, what this process counts is not seen.
    """
    global _own, _lock
    _lock = Lock()  # a thread that is not here any more may have held the other one
    _own = array("q", bytes(8 * SEAT_CELLS))
    if board is None:
        return
    cells = board.join()
    if cells is None:
        logger.warning("what process {} counts will not be seen: no seat is free", os.getpid())
        return
    cells[SERVING] = serving
    _own = cells


def add(place: int, amount: int = 1) -> None:
    """Add to a counter."""
    with _lock:
        _own[place] += amount


def requests_place(method: str, status: int) -> int:
    """Return the cell of requests of that method that were answered with that status."""
    first = _METHOD_PLACES.get(method, _METHOD_PLACES["other"])
    return REQUESTS + first + _STATUS_PLACES.get(status, len(STATUSES) - 1)


def observe_flush(seconds: float, batch: int) -> None:
    """Count a flush that made `batch` blobs durable."""
    _observe(FLUSH_DURATION, seconds)
    _observe(FLUSH_BATCH, batch)


def upload(door: str, size: int, *, created: bool) -> None:
    """Count a file of `size` bytes that was taken at one of DOORS; not `created`: it was here."""
    with _lock:
        _own[UPLOADS + DOORS.index(door)] += 1
        _own[UPLOAD_BYTES] += size
        if not created:
            _own[DEDUP_HITS] += 1
            _own[DEDUP_BYTES] += size


def blob_added(digest: str, size: int) -> None:
    """Count content of that digest, in hex, that is in the store from now on."""
    _change(digest, 1, size)


def blob_removed(digest: str, size: int) -> None:
    """Count content that is not in the store any more."""
    _change(digest, -1, -size)


def connections(numbers: Sequence[int]) -> None:
    """Say how many connections this process has in each of STATES."""
    with _lock:
        for place, number in enumerate(numbers, CONNECTIONS):
            _own[place] = number


def merge(counted: list[tuple[int, int]]) -> None:
    """Add to several counters at once: pairs of place and amount."""
    with _lock:
        for place, amount in counted:
            _own[place] += amount


def _change(digest: str, blobs: int, size: int) -> None:
    prefix = int(digest[:2], 16)
    with _lock:
        _own[BLOBS + prefix] += blobs
        _own[BLOB_BYTES + prefix] += size


def _observe(histogram: Histogram, value: float) -> None:
    with _lock:
        _own[histogram.place + bisect_left(histogram.bounds, value)] += 1
        _own[histogram.sum_place] += round(value / histogram.unit)
