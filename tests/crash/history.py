"""What clients were told about a store, and what may therefore lie in it after a crash.

Durable linearizability (Izraelevitz, Mendes and Scott, 2016): what is found after a crash is what
the answered calls make in some order, with or without each of those that were never answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from tests.kept import Kept, content_step
from tests.linearizability import Call, outcomes

# What the door answers where it did what was asked.
DONE = {"store by hash": 200, "store by id": 201, "delete by hash": 200, "delete by id": 200}

UNANSWERED = 0
"""The status of a call whose answer never came, or was that the store has failed (5xx)."""

NAMELESS = "?"
"""Begins what stands for the id that an unanswered upload may have got."""


class Found(NamedTuple):
    """What is found of a content after a crash: whether it is there, and its ids."""

    is_there: bool
    ids: frozenset[str] = frozenset()


def unanswered(begun: float, action: str, file_id: str = "") -> Call:
    """Return a call that may have been carried out at any time since it began, or not at all."""
    return Call(begun, inf, action, UNANSWERED, file_id)


def before_the_cut(call: Call, begun: float, ended: float) -> Call | None:
    """Return what is known of a call if the power was cut between these moments; None: nothing.

    A machine without power gives no answers. What is answered after the cut, by a kernel that still
    runs, comes out of its memory: an fsync(2) that the cut has interrupted may return 0 as well.
    """
    if call.ended < begun:
        return call
    if call.begun > ended:
        return None
    may_be_done = call.status in (UNANSWERED, DONE[call.action])
    return unanswered(call.begun, call.action, call.file_id) if may_be_done else None


def steps(kept: Kept, call: Call) -> Iterable[Kept]:
    """Return the states that may follow a call; of an unanswered one both."""
    if call.status != UNANSWERED:
        after = content_step(kept, call)
        return [] if after is None else [after]
    done = content_step(kept, call._replace(status=DONE[call.action]))
    return [kept] if done is None else [kept, done]


class History:
    """All that was told of one store, from crash to crash, by digest."""

    def __init__(self) -> None:
        """Begin with an empty store."""
        self._may_be: dict[str, set[Kept]] = defaultdict(lambda: {Kept()})
        self._told: set[str] = set()  # ids that somebody knows

    def judge(
        self, calls: Mapping[str, Sequence[Call]], found: Mapping[str, Found]
    ) -> dict[str, str]:
        """Take the calls since the last crash and what was found after this one, by digest.

        Returns what cannot be explained: by digest, why. What can be is the next beginning.
        """
        for each in calls.values():
            self._told.update(call.file_id for call in each if call.status != UNANSWERED)
        wrong = {}
        for digest in {*self._may_be, *calls, *found}:
            why = self._judge(digest, calls.get(digest, ()), found.get(digest, Found(False)))
            if why:
                wrong[digest] = why
        self._told.update(each for one in found.values() for each in one.ids)
        return wrong

    def _judge(self, digest: str, calls: Sequence[Call], found: Found) -> str:
        before = self._may_be[digest]
        possible = set(outcomes(calls, before, steps))
        explained = {
            Kept(kept.by_hash, found.ids) for kept in possible if self._is_seen(kept, found)
        }
        if explained:
            self._may_be[digest] = explained
            return ""
        rows = "\n  ".join(map(str, sorted(calls)))
        return f"found {found}\n  from {before}\n  {rows}\n  may be {possible or 'nothing'}"

    def _is_seen(self, kept: Kept, found: Found) -> bool:
        """Tell whether it is that state which is found."""
        named = {each for each in kept.names if not each.startswith(NAMELESS)}
        more = found.ids - named
        return (
            found.is_there == (kept.by_hash or bool(kept.names))
            and named <= found.ids
            and len(more) == len(kept.names) - len(named)
            and not more & self._told  # an id that was deleted does not come back
        )
