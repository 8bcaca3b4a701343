"""A check that is interrupted goes on from where it was, and keeps to its pace."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import termios
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.storage.note import Note
from httpd.upkeep import pace
from httpd.upkeep.pace import Pace
from httpd.upkeep.position import Bookmark, Position
from httpd.upkeep.report import Tally
from tests.daemons import PROJECT, Daemon, until
from tests.upkeep.stores import Command, Store, flip

BLOBS, SIZE = 300, 10_000
SLOWLY = "--rate=300K"  # ten seconds for all of it, if nobody interrupted


@pytest.fixture
def names(store: Store) -> list[str]:
    """The names of the blobs, in the order of the check."""
    contents = (b"%d" % number + bytes(SIZE - len(str(number))) for number in range(BLOBS))
    return sorted(store.keep(content).hex for content in contents)


@pytest.fixture
def slow_check(store: Store, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A check in a process of its own, which has saved where it is."""
    words = ["verify", f"--store={store.root}", f"--pidfile={tmp_path}/pid", SLOWLY]
    process = subprocess.Popen(
        [*Daemon(tmp_path).line("verify")[:2], *words], stdout=subprocess.PIPE, cwd=PROJECT
    )
    yield process
    process.kill()
    process.communicate()


def position(store: Store) -> str:
    saved = Note(store.root, ".verify").read()
    name: str = json.loads(saved)["position"][1] if saved else ""
    return name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_check_that_is_interrupted_goes_on(
    number: signal.Signals,
    names: list[str],
    store: Store,
    command: Command,
    request: pytest.FixtureRequest,
) -> None:
    flip(store.path(names[0]))
    check = request.getfixturevalue("slow_check")
    until(lambda: position(store))
    os.kill(check.pid, number)
    code = check.wait()
    assert code == (130 if number == signal.SIGINT else -number)
    told = check.stdout.read().decode()
    assert told.startswith(f"damaged {names[0]}: ")
    assert told.count("\n") == 1

    # Nobody looks again at what was done, so nobody finds what has befallen it since.
    assert names[2] < position(store) < names[-2]
    flip(store.path(names[1]))
    flip(store.path(names[-1]))
    outcome = command("verify")
    assert outcome.faults == [("damaged", names[-1])]
    assert outcome.report["blobs"] == BLOBS
    assert outcome.report["bytes"] == BLOBS * SIZE
    assert outcome.report["found"] == {"damaged": 2}
    assert outcome.report["seconds"] > 1  # those of both
    # It was completed: the next one begins at the beginning.
    assert not position(store)
    assert command("verify").report["found"] == {"damaged": 3}


def test_check_can_begin_anew(names: list[str], store: Store, command: Command) -> None:
    note = Note(store.root, ".verify")
    there = Position(names[9][:2], names[9])
    Bookmark(note, repair=False).save(there, Tally(Counter(blobs=10, bytes=10 * SIZE, names=0)))
    saved = note.read()
    flip(store.path(names[0]))
    assert command("verify").faults == []
    note.write(saved)
    assert command("verify", "--anew").faults == [("damaged", names[0])]


def test_check_that_repairs_does_not_go_on_after_one_that_does_not(
    names: list[str], store: Store, command: Command
) -> None:
    there = Position(names[9][:2], names[9])
    Bookmark(Note(store.root, ".verify"), repair=False).save(there, Tally(Counter(blobs=10)))
    outcome = command("verify", "--repair")
    assert (outcome.report["blobs"], outcome.report["names"]) == (BLOBS, 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"{}", b'{"repair": false}',
     b'{"repair": false, "counts": 1, "faults": {}, "position": ["a", "b"], "seconds": 0}'],
)  # fmt: skip
def test_note_that_cannot_be_understood_is_none(content: bytes, store: Store) -> None:
    note = Note(store.root, ".verify")
    note.write(content)
    assert Bookmark(note, repair=False).load() is None


def test_bookmark_comes_back_as_it_was_saved(store: Store) -> None:
    note = Note(store.root, ".verify")
    saved = Position("ab", "ab\udce4"), Tally(Counter(blobs=1), Counter(strange=2), 3.5)
    Bookmark(note, repair=True).save(*saved)
    assert Bookmark(note, repair=True).load() == saved


def test_pace_is_kept_without_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    slept = []

    def sleep(seconds: float) -> None:
        nonlocal clock
        slept.append(round(seconds, 6))
        clock += seconds

    monkeypatch.setattr(pace.time, "monotonic", lambda: clock)
    monkeypatch.setattr(pace.time, "sleep", sleep)
    kept = Pace(1000)
    kept.spend(500)
    kept.spend(250)
    clock += 60  # a long pause, for whatever reason, is not caught up on
    kept.spend(1000)
    assert slept == [0.5, 0.25, 0.9]
    Pace(None).spend(1 << 40)
    assert len(slept) == 3


def test_bar_is_for_a_terminal(names: list[str], store: Store, tmp_path: Path) -> None:
    flip(store.path(names[0]))
    line = [*Daemon(tmp_path).line("verify"), f"--store={store.root}"]
    primary, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=terminal, text=True, check=False)
    shown = os.read(primary, 1 << 16).decode()
    os.close(primary)
    os.close(terminal)
    assert "%|" in shown
    damaged, summary = done.stdout.splitlines()
    assert damaged.startswith(f"damaged {names[0]}: its bytes have md5 ")
    assert summary.startswith("300 blobs, 3,000,000 bytes, 0 names, ")
    assert summary.endswith(" seconds: 1 damaged")
    quiet = subprocess.run(line, capture_output=True, text=True, check=False)
    assert quiet.stderr == ""
