"""Clients that store and delete at both doors until a crash, and note what they are told."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import count
from threading import Event, Lock
from time import monotonic

from tests.crash.disk import Moment
from tests.crash.history import (
    DONE,
    NAMELESS,
    UNANSWERED,
    Found,
    before_the_cut,
    unanswered,
)
from tests.crash.stand import Answer, Broken, Caller
from tests.linearizability import Call

KIB, MIB = 1 << 10, 1 << 20

# In one piece with the head, below what is flushed in groups, just above it, in several pieces, and
# more than is flushed while it comes in.
SIZES = {0: 1, 1: 2, 4 * KIB: 24, 60 * KIB: 10, 70 * KIB: 5, 300 * KIB: 4, 3 * MIB: 1, 17 * MIB: 1}
"""Length of a content in bytes -> how many contents have it."""

# How often each is done: a store that is often emptied makes and removes folders.
ACTIONS = {"store by hash": 5, "store by id": 2, "delete by hash": 3, "delete by id": 2}


def make_contents(digest: Callable[[bytes], str], seed: int) -> dict[str, bytes]:
    """Return the contents of a trial, by digest; half of the small ones lie in three folders."""
    dice = random.Random(seed)
    contents: dict[str, bytes] = {}
    crowded = [f"{dice.randrange(256):02x}" for _ in range(3)]
    for size, number in SIZES.items():
        for index in range(number):
            content = dice.randbytes(size)
            while index % 2 and size in (4 * KIB, 60 * KIB):  # 85 attempts on the average
                if digest(content)[:2] in crowded:
                    break
                content = dice.randbytes(8) + content[8:]
            contents[digest(content)] = content
    return contents


class Notes:
    """What all clients of a store were told since the last crash."""

    def __init__(self, ids: Iterable[tuple[str, str]] = ()) -> None:
        """Begin with these names that may be deleted, each as its digest and id."""
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.failures: list[tuple[float, str]] = []  # when, and what: legitimate after a cut only
        self.answered = 0  # how many calls were
        self._ids = list(ids)
        self._lock = Lock()
        self._nameless = count()

    def note(self, digest: str, call: Call) -> None:
        """Note a call about a content."""
        with self._lock:
            self.calls[digest].append(call)
            self.answered += call.status != UNANSWERED
            if call.status == DONE["store by id"]:
                self._ids.append((digest, call.file_id))

    def take_id(self, dice: random.Random) -> tuple[str, str] | None:
        """Take a name to delete, so that nobody else does; None if there is none."""
        with self._lock:
            return self._ids.pop(dice.randrange(len(self._ids))) if self._ids else None

    def before(self, cut: Moment) -> dict[str, list[Call]]:
        """Return what is known of the calls to a store whose power was cut then."""
        known = {
            digest: [before_the_cut(call, cut.begun, cut.ended) for call in calls]
            for digest, calls in self.calls.items()
        }
        return {digest: [call for call in calls if call] for digest, calls in known.items()}

    def nameless(self) -> str:
        """Return what stands for an id that nobody was told."""
        return f"{NAMELESS}{next(self._nameless)}"


class Client:
    """One of several clients of a store."""

    def __init__(self, contents: dict[str, bytes], seed: int) -> None:
        """Take the contents to store, by digest."""
        self._contents = contents
        self._digests = list(contents)
        # Of the big ones few at a time, or there would be time for little else.
        self._weights = [1 if len(each) < MIB else 0.1 for each in contents.values()]
        self._dice = random.Random(seed)

    def run(self, caller: Caller, notes: Notes, over: Event) -> None:
        """Store and delete until it is over, or the daemon is."""
        with closing(caller):
            while not over.is_set():
                (action,) = self._dice.choices(list(ACTIONS), list(ACTIONS.values()))
                (digest,) = self._dice.choices(self._digests, self._weights)
                target = digest, ""
                if action == "delete by id":
                    target = notes.take_id(self._dice) or target
                try:
                    self._act(action, *target, caller, notes)
                except Broken as error:
                    notes.failures.append((monotonic(), str(error)))
                    return

    def _act(self, action: str, digest: str, file_id: str, caller: Caller, notes: Notes) -> None:
        if action == "delete by id" and not file_id:
            return
        begun = monotonic()
        pending = unanswered(begun, action, file_id or notes.nameless())
        try:
            answer = self._ask(action, caller, digest, file_id)
        except Broken:
            notes.note(digest, pending)
            raise
        if answer.status >= 500:
            notes.failures.append((monotonic(), f"{action}: {answer}"))
            notes.note(digest, pending)
        else:
            file_id = answer.text if answer.status == DONE["store by id"] else file_id
            notes.note(digest, Call(begun, monotonic(), action, answer.status, file_id))

    def _ask(self, action: str, caller: Caller, digest: str, file_id: str) -> Answer:
        content = self._contents[digest]
        match action:
            case "store by hash":
                return caller.ask("POST", "/", content)
            case "store by id":
                return caller.ask("POST", "/files/a.txt", content)
            case "delete by hash":
                return caller.ask("DELETE", f"/?file_hash={digest}")
            case _:
                return caller.ask("DELETE", f"/files/{file_id}/")


def ids_in(found: dict[str, Found]) -> list[tuple[str, str]]:
    """Return the ids that were found, each with its digest."""
    return [(digest, file_id) for digest, each in found.items() for file_id in each.ids]


def explain(wrong: dict[str, str], contents: dict[str, bytes]) -> Iterable[str]:
    """Say of each content that is not as it must be what it is, and what is known of it."""
    for digest, why in wrong.items():
        yield f"{digest}, {len(contents[digest])} bytes: {why}"
