"""Counting what is in the store, in the background of a daemon.

The processes count every content that they add or remove, so `/metrics` never walks the store. But
what was there before has to be counted once; and again now and then, because other hands may add
and remove files as well. One process does it for all of them, a prefix folder at a time, and rests
in between.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

from loguru import logger

from httpd.metrics import reading
from httpd.metrics.counting import PREFIXES
from httpd.traps import in_pool, pause

AGAIN_SECONDS = 3600.0
# How often a process looks whether it is time, and whether whoever counted has died at it.
LOOK_SECONDS = 60.0
# Nine times as long as the work has taken, so that a big store costs a tenth of a core at most; and
# not for less than this, as the loop's clock is no finer.
REST, LEAST_REST_SECONDS = 9, 0.25
# A folder that grows or shrinks while it is read is read again, so often; then a few files more or
# less are no matter.
READINGS = 3


class Countable(Protocol):
    """What can be counted."""

    def usage(self, prefix: int) -> tuple[int, int]:
        """Return the number of blobs in a prefix folder, and their bytes. Raises OSError."""


async def keep_counting(storage: Countable) -> None:
    """Count the store whenever it is due and nobody else does. Never returns."""
    while True:
        with reading.census(AGAIN_SECONDS) as due:
            if due:
                await _count(storage)
        await pause(monotonic() + LOOK_SECONDS)


async def _count(storage: Countable) -> None:
    blobs = size = 0
    begun = monotonic()
    try:
        for prefix in range(PREFIXES):
            more, bytes_more = await _count_folder(storage, prefix)
            blobs, size = blobs + more, size + bytes_more
            rest = REST * (monotonic() - begun)
            if rest >= LEAST_REST_SECONDS:
                await pause(monotonic() + rest)
                begun = monotonic()
    except OSError as error:
        logger.error("the store cannot be counted: {}", error)
        return
    reading.note_census(blobs, size)


async def _count_folder(storage: Countable, prefix: int) -> tuple[int, int]:
    """Return what is in a folder beside what the processes have counted of it themselves."""
    for _ in range(READINGS):
        before = reading.change_of(prefix)
        blobs, size = await in_pool(storage.usage, prefix)
        if reading.change_of(prefix) == before:
            break
    return blobs - before.blobs, size - before.bytes
