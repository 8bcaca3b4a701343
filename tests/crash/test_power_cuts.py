"""The power is cut under many clients, hundreds of times: nothing acknowledged is ever lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Timer
from typing import NamedTuple

import pytest

from tests.crash.clients import Client, Notes, explain, ids_in, make_contents
from tests.crash.disk import WITH_LOG, WITHOUT_LOG, Disk, Moment, syncfs
from tests.crash.history import Found, History
from tests.crash.stand import Stand
from tests.crash.tally import ANSWERS, CUTS, tally

pytestmark = pytest.mark.crash

CLIENTS = 6
# Answers before the cut, and the seconds that they may take at most.
MOST_ANSWERS, LONGEST = 200, 1.0
# Seconds from the last of them to the cut: wherever between two answers.
PAUSE = 0.005
# A start takes about so long: a cut at random within it meets a recovery half-done.
START = 0.05


class Kind(NamedTuple):
    """A store that the power is cut under."""

    file_system: str
    algorithm: str
    below: str  # the store is this folder of the file system, or the whole of it
    flags: tuple[str, ...] = ()


KINDS = {
    "ext4": Kind("ext4", "md5", "store"),
    "xfs": Kind("xfs", "md5", "store"),
    "ext4, sha256, the whole file system, one worker": Kind("ext4", "sha256", "", ("--workers=1",)),
    "xfs, blake2b, the whole file system, two threads each": Kind(
        "xfs", "blake2b", "", ("--threads=2",)
    ),
}


class Trial:
    """A store on a disk of its own, its clients, and all that they were ever told."""

    def __init__(self, kind: Kind, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = Disk(folder, kind.file_system)
        self.stand = Stand(
            folder, self.disk.path / kind.below, *kind.flags, algorithm=kind.algorithm
        )
        self.contents = make_contents(self.stand.digest, seed)
        self.clients = [Client(self.contents, seed + number) for number in range(CLIENTS)]
        self.history = History()
        self.found: dict[str, Found] = {}

    def close(self) -> None:
        self.stand.close()
        self.disk.close()

    def round(self) -> None:
        """Work, cut, recover, and look what is there."""
        self.stand.start()
        notes = Notes(ids_in(self.found))
        cut = self.work_and_cut(notes)
        early = [failure for failure in notes.failures if failure[0] < cut.begun]
        assert not early, early
        while self.dice.random() < 0.25:  # and again while it recovers
            self.stand.begin()
            time.sleep(self.dice.uniform(0, START))
            self.cut()
        self.stand.start()
        self.stand.repair()
        self.found = self.stand.find(self.contents)
        calls = notes.before(cut)
        wrong = self.history.judge(calls, self.found)
        assert not wrong, "\n".join((str(cut), *explain(wrong, self.contents)))
        tally[ANSWERS] += sum(bool(call.status) for each in calls.values() for call in each)
        self.stand.kill()

    def work_and_cut(self, notes: Notes) -> Moment:
        """Let the clients work for a moment, and cut; return when that was."""
        over = Event()
        with ThreadPoolExecutor(CLIENTS) as pool, self.pressure():
            for client in self.clients:
                pool.submit(client.run, self.stand.caller(), notes, over)
            enough, deadline = self.dice.randrange(MOST_ANSWERS), time.monotonic() + LONGEST
            while notes.answered < enough and time.monotonic() < deadline:
                time.sleep(PAUSE / 2)
            time.sleep(self.dice.uniform(0, PAUSE))
            try:
                return self.cut()
            finally:
                over.set()

    def cut(self) -> Moment:
        """Cut the power, and mount the disk again; the processes die a moment before or after.

        Returns when the one or the other has begun: clients are not answered any more then.
        """
        how = WITH_LOG if self.dice.random() < 0.3 else WITHOUT_LOG
        if self.dice.random() < 0.3:
            killed_at = time.monotonic()
            self.stand.kill()
            moment = Moment(killed_at, self.disk.cut(how).ended)
        else:
            moment = self.disk.cut(how)
            time.sleep(self.dice.choice((0, 0, 0.02)))  # so that some see that all fails
            self.stand.kill()
        self.disk.unmount()
        self.disk.mount()
        tally[CUTS] += 1
        return moment

    @contextmanager
    def pressure(self) -> Iterator[None]:
        """Now and then have everything written back meanwhile, in an order that nobody chose."""

        def write_back() -> None:
            with suppress(OSError):  # cut off meanwhile
                syncfs(self.disk.path)

        timer = Timer(self.dice.uniform(0, LONGEST / 4), write_back)
        if self.dice.random() < 0.25:
            timer.start()
        yield
        timer.cancel()
        if timer.is_alive():
            timer.join()  # with the disk mounted again it might flush what it should not


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_power_cuts(kind: Kind, tmp_path: Path, cuts: int) -> None:
    trial = Trial(kind, tmp_path, seed=cuts)
    try:
        until = tally[CUTS] + cuts
        while tally[CUTS] < until:
            trial.round()
    finally:
        trial.close()
