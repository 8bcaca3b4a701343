"""Which journal takes the next group, and when one is settled: the two journals of a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from loguru import logger

from httpd.storage.journal import Journal
from httpd.storage.journals import Journals
from httpd.storage.settling import Settling

# One that takes uploads while the other one is settled.
MOST_JOURNALS = 2
# What bounds the time that a start takes after a crash.
# Measured: 2 s for a full one, if each of its 8,000 files was torn and is written anew.
JOURNAL_BYTES = 32 << 20
JOURNAL_RECORDS = 8192
# A journal that nothing is added to is settled then, so that little is left to a crash or a stop.
IDLE_SECONDS = 1.0
# A disk that has failed is left alone for so long before the next attempt.
RETRY_SECONDS = 10.0


class Rotation:
    """The journals that this process appends to, and the thread that settles them.

    Made before a fork, used after it: journals and thread come with the first use.
    """

    def __init__(self, journals: Journals, settling: Settling) -> None:
        """Take the journals of all processes, and what settles one."""
        self._journals = journals
        self._settling = settling
        self._lock = Lock()
        self._active: Journal | None = None
        self._spare: list[Journal] = []
        self._made = 0
        self._used_at = 0.0
        self._queue: SimpleQueue[Journal | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._closing = Event()

    @contextmanager
    def journal(self) -> Iterator[Journal | None]:
        """Hold the journal for one group, None where none can be had at the moment.

        In the body the group is appended and made visible: what is in a journal when it comes to be
        settled is there as files.
        """
        with self._lock:
            journal = self._take()
            was_empty = journal is None or not journal.count
            try:
                yield journal
            finally:
                if journal is not None:
                    self._put_back(journal, nudge=was_empty)

    def close(self) -> None:
        """Settle and remove the journals, as far as that can be done; to be called at the end."""
        with self._lock:
            self._closing.set()
            active, self._active = self._active, None
        if active is not None:
            self._queue.put(active)
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()
        while self._spare:
            journal = self._spare.pop()
            try:
                self._journals.remove(journal)
            except OSError as error:
                logger.error("a journal cannot be removed: {}", error)
            journal.close()

    def _take(self) -> Journal | None:
        if self._active is None and not self._closing.is_set():
            self._active = self._spare.pop() if self._spare else self._make()
        return self._active

    def _make(self) -> Journal | None:
        if self._made == MOST_JOURNALS:
            return None  # both are being settled: the disk is slower than the uploads
        try:
            self._settling.watch()
            journal = self._journals.create()
        except OSError as error:
            logger.error("no journal can be made, each upload is flushed by itself: {}", error)
            return None
        self._made += 1
        return journal

    def _put_back(self, journal: Journal, *, nudge: bool) -> None:
        self._used_at = time.monotonic()
        if self._thread is None:
            self._thread = Thread(target=self._settle_all, name="settling", daemon=True)
            self._thread.start()
        is_full = journal.size >= JOURNAL_BYTES or journal.count >= JOURNAL_RECORDS
        if is_full or journal.has_failed:
            self._active = None
            self._queue.put(journal)
        elif nudge and journal.count:
            self._queue.put(None)  # there is something to look after, from now on

    def _settle_all(self) -> None:
        """Settle what comes by the queue, and what is left alone for a while."""
        while True:
            active = self._active
            waits = IDLE_SECONDS if active is not None and active.count else None
            try:
                journal = self._queue.get(timeout=waits)
            except Empty:
                journal = self._take_idle()
            if journal is not None:
                self._settle(journal)
            elif self._closing.is_set() and self._queue.empty():
                return

    def _take_idle(self) -> Journal | None:
        with self._lock:
            journal = self._active
            is_idle = time.monotonic() - self._used_at >= IDLE_SECONDS
            if journal is None or not journal.count or not is_idle:
                return None
            self._active = None
            return journal

    def _settle(self, journal: Journal) -> None:
        while True:
            try:
                self._settling.settle(journal)
                break
            except OSError as error:
                logger.error("a journal cannot be settled now, it stays: {}", error)
                if self._closing.wait(RETRY_SECONDS):
                    return
        with self._lock:
            self._spare.append(journal)
