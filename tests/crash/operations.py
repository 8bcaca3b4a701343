"""The operations that are tried one at a time: each size of content at both doors."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.crash.clients import KIB, MIB
from tests.crash.order import CATALOG, GONE, HERE, JOURNALED, NEW
from tests.crash.stand import Answer, Caller, Stand

# As in `clients`: the bounds at which the way of a content changes lie between them.
SIZES = {
    "nothing": 0, "a byte": 1, "4 KiB": 4 * KIB, "60 KiB": 60 * KIB, "70 KiB": 70 * KIB,
    "300 KiB": 300 * KIB, "3 MiB": 3 * MIB, "17 MiB": 17 * MIB,
}  # fmt: skip
# What is stored by hash and no larger shares a flush with others.
SMALL = 64 * KIB


class Ready(NamedTuple):
    """An operation that can be carried out: the stand is as it needs it."""

    ask: Callable[[Caller], Answer]
    status: int  # of the answer, where nothing goes wrong
    content: bytes
    digest: str
    # What is there before, and after: by hash, and how many names.
    before: tuple[bool, int]
    after: tuple[bool, int]


class Operation(NamedTuple):
    """An operation by its title; `get_ready` brings the stand into the state that it needs."""

    title: str
    size: int
    get_ready: Callable[[Stand, Caller, bytes], Ready]
    needed: tuple[str, ...]  # steps that must have been done before the answer

    def alternatives(self) -> list[tuple[str, ...]]:
        """Return the steps of each way that may be taken: without a journal there is another."""
        alone = tuple(word for word in NEW if word != "write content" or self.size)
        return [self.needed, alone] if "append" in self.needed else [self.needed]

    @property
    def is_new(self) -> bool:
        """Whether it stores content that is not there."""
        return self.title.startswith(("store by hash,", "store by id,"))

    @property
    def deletes(self) -> bool:
        """Whether it takes something away."""
        return self.title.startswith("delete")


def post(caller: Caller, target: str, content: bytes) -> Answer:
    """Store a content; it has to go well."""
    answer = caller.ask("POST", target, content)
    assert answer.status in (200, 201), answer
    return answer


def _store(before: tuple[bool, int], door: str) -> Callable[[Stand, Caller, bytes], Ready]:
    def get_ready(stand: Stand, caller: Caller, content: bytes) -> Ready:
        _make(caller, before, content)
        by_hash, names = before
        after = (True, names) if door == "/" else (by_hash, names + 1)
        status = 200 if door == "/" else 201

        def ask(caller: Caller) -> Answer:
            return caller.ask("POST", door, content)

        return Ready(ask, status, content, stand.digest(content), before, after)

    return get_ready


def _delete_by_hash(stand: Stand, caller: Caller, content: bytes) -> Ready:
    digest = post(caller, "/", content).text

    def ask(caller: Caller) -> Answer:
        return caller.ask("DELETE", f"/?file_hash={digest}")

    return Ready(ask, 200, content, digest, (True, 0), (False, 0))


def _delete_by_hash_after_the_name(stand: Stand, caller: Caller, content: bytes) -> Ready:
    """Have a row in the catalog that says that it was stored by hash."""
    file_id = _make(caller, BOTH, content)
    assert caller.ask("DELETE", f"/files/{file_id}/").status == 200
    return _delete_by_hash(stand, caller, content)


def _delete_by_id(before: tuple[bool, int]) -> Callable[[Stand, Caller, bytes], Ready]:
    def get_ready(stand: Stand, caller: Caller, content: bytes) -> Ready:
        file_id = _make(caller, before, content)
        by_hash, names = before

        def ask(caller: Caller) -> Answer:
            return caller.ask("DELETE", f"/files/{file_id}/")

        after = by_hash, names - 1
        return Ready(ask, 200, content, stand.digest(content), before, after)

    return get_ready


def _make(caller: Caller, state: tuple[bool, int], content: bytes) -> str:
    """Bring a content that is not there into a state; return its last id."""
    by_hash, names = state
    file_id = ""
    if by_hash:
        post(caller, "/", content)
    for _ in range(names):
        file_id = post(caller, "/files/a.txt", content).text
    return file_id


NOT_THERE, BY_HASH, NAMED, TWICE, BOTH = (False, 0), (True, 0), (False, 1), (False, 2), (True, 1)

# title -> (how it is made ready, the steps before its answer)
WAYS = {
    "store by hash": (_store(NOT_THERE, "/"), NEW),
    "store by hash what is there": (_store(BY_HASH, "/"), HERE),
    "store by hash what has a name": (_store(NAMED, "/"), (*HERE, *CATALOG)),
    "store by id": (_store(NOT_THERE, "/files/a.txt"), (*NEW, *CATALOG)),
    "store by id what is there": (_store(BY_HASH, "/files/a.txt"), (*HERE, *CATALOG)),
    "store by id what has a name": (_store(NAMED, "/files/a.txt"), (*HERE, *CATALOG)),
    "delete by hash": (_delete_by_hash, GONE),
    "delete by hash what had a name": (_delete_by_hash_after_the_name, (*GONE, *CATALOG)),
    "delete the last name": (_delete_by_id(NAMED), (*GONE, *CATALOG)),
    "delete one of two names": (_delete_by_id(TWICE), (*CATALOG, "answer")),
    "delete a name of what is there": (_delete_by_id(BOTH), (*CATALOG, "answer")),
}


def operations(*sizes: str) -> list[Operation]:
    """Return every operation, with contents of these SIZES, or of all."""
    found = []
    for size in sizes or SIZES:
        for title, (get_ready, needed) in WAYS.items():
            # Without a byte there is nothing to write.
            words = JOURNALED if title == "store by hash" and SIZES[size] <= SMALL else needed
            words = tuple(word for word in words if word != "write content" or SIZES[size])
            found.append(Operation(f"{title}, {size}", SIZES[size], get_ready, words))
    return found


# Every way with one size, and the others where the way of the content itself is another one.
TRIED = [
    *operations("4 KiB"),
    *(each for each in operations("nothing", "70 KiB", "3 MiB") if each.is_new),
]


class Contents:
    """Contents that are new, each of them, where that can be."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(seed)

    def fresh(self, size: int) -> bytes:
        """Return a content of that length."""
        return self._dice.randbytes(size)


def clear(stand: Stand, caller: Caller, content: bytes) -> None:
    """See to it that a content is not there: an empty one is never new."""
    digest = stand.digest(content)
    for file_id in stand.names().get(digest, ()):
        assert caller.ask("DELETE", f"/files/{file_id}/").status == 200
    assert caller.ask("DELETE", f"/?file_hash={digest}").status in (200, 404)
