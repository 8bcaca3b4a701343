"""The judge is judged: on histories that are written by hand."""

from __future__ import annotations

import pytest

from tests.crash.history import Found, History, before_the_cut, unanswered
from tests.linearizability import Call

STORED, NAMED = "store by hash", "store by id"
FREED, UNNAMED = "delete by hash", "delete by id"
GONE, THERE = Found(False), Found(True)


def ids(*names: str) -> Found:
    return Found(bool(names), frozenset(names))


Round = tuple[list[Call], Found]

GOOD: dict[str, list[Round]] = {
    "nothing was done": [([], GONE)],
    "stored and there": [([Call(0, 1, STORED, 200)], THERE)],
    "stored, deleted and gone": [([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200)], GONE)],
    "deleted and stored anew": [
        ([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200), Call(4, 5, STORED, 200)], THERE)
    ],
    "an upload without an answer is there": [([unanswered(0, STORED)], THERE)],
    "an upload without an answer is not there": [([unanswered(0, STORED)], GONE)],
    "a delete without an answer was done": [
        ([Call(0, 1, STORED, 200), unanswered(2, FREED)], GONE)
    ],
    "a delete without an answer was not done": [
        ([Call(0, 1, STORED, 200), unanswered(2, FREED)], THERE)
    ],
    "a delete without an answer came before a later upload": [
        ([Call(0, 1, STORED, 200), unanswered(2, FREED), Call(3, 4, STORED, 200)], THERE)
    ],
    "a delete without an answer came after a later upload": [
        ([Call(0, 1, STORED, 200), unanswered(2, FREED), Call(3, 4, STORED, 200)], GONE)
    ],
    "an upload beside a delete, in the one order": [
        ([Call(0, 1, STORED, 200), Call(2, 5, FREED, 200), Call(3, 4, STORED, 200)], THERE)
    ],
    "an upload beside a delete, in the other order": [
        ([Call(0, 1, STORED, 200), Call(2, 5, FREED, 200), Call(3, 4, STORED, 200)], GONE)
    ],
    "an upload without an answer, seen by a delete": [
        ([unanswered(0, STORED), Call(2, 3, FREED, 200)], GONE)
    ],
    "named and there": [([Call(0, 1, NAMED, 201, "a")], ids("a"))],
    "one of two names is taken away": [
        ([Call(0, 1, NAMED, 201, "a"), Call(0, 1, NAMED, 201, "b"), Call(2, 3, UNNAMED, 200, "a")],
         ids("b"))
    ],
    "gone with its last name": [
        ([Call(0, 1, NAMED, 201, "a"), Call(2, 3, UNNAMED, 200, "a")], GONE)
    ],
    "stays after its last name, since it was stored by hash": [
        ([Call(0, 1, NAMED, 201, "a"), Call(0, 1, STORED, 200), Call(2, 3, UNNAMED, 200, "a")],
         THERE)
    ],
    "a name that nobody was told": [([unanswered(0, NAMED, "?1")], ids("x"))],
    "two names that nobody was told, one of them given": [
        ([unanswered(0, NAMED, "?1"), unanswered(0, NAMED, "?2")], ids("x"))
    ],
    "what was there stays through a crash in which nothing was done": [
        ([Call(0, 1, STORED, 200), Call(0, 1, NAMED, 201, "a")], ids("a")), ([], ids("a")),
        ([Call(0, 1, UNNAMED, 200, "a")], THERE),
    ],
    "a name that nobody was told is known after the crash": [
        ([unanswered(0, NAMED, "?1")], ids("x")), ([Call(0, 1, UNNAMED, 200, "x")], GONE)
    ],
}  # fmt: skip

BAD: dict[str, list[Round]] = {
    "there from nowhere": [([], THERE)],
    "stored and lost": [([Call(0, 1, STORED, 200)], GONE)],
    "deleted and there": [([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200)], THERE)],
    "stored anew and lost": [
        ([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200), Call(4, 5, STORED, 200)], GONE)
    ],
    "lost, and a delete without an answer began only for another": [
        ([Call(0, 1, STORED, 200), unanswered(2, UNNAMED, "a")], GONE)
    ],
    "deleted after an upload without an answer had been seen": [
        ([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200), Call(4, 5, FREED, 404)], THERE)
    ],
    "there after a delete, and the upload without an answer was too early": [
        ([Call(0, 1, STORED, 200), Call(2, 3, FREED, 200), Call(4, 5, FREED, 200)], THERE)
    ],
    "a refused upload is there": [([Call(0, 1, FREED, 404)], THERE)],
    "named, and the name is lost": [([Call(0, 1, NAMED, 201, "a")], GONE)],
    "named, and only the content is there": [([Call(0, 1, NAMED, 201, "a")], THERE)],
    "named, and there under another name": [([Call(0, 1, NAMED, 201, "a")], ids("x"))],
    "one more name than was asked for": [
        ([Call(0, 1, NAMED, 201, "a"), unanswered(0, NAMED, "?1")], ids("a", "x", "y"))
    ],
    "a name is there, and its content is not": [
        ([Call(0, 1, NAMED, 201, "a")], Found(False, frozenset("a")))
    ],
    "a name that was taken away comes back": [
        ([Call(0, 1, NAMED, 201, "a"), Call(2, 3, UNNAMED, 200, "a")], ids("a"))
    ],
    "a name that was taken away comes back in place of another": [
        ([Call(0, 1, NAMED, 201, "a"), Call(2, 3, UNNAMED, 200, "a"), unanswered(4, NAMED, "?1")],
         ids("a"))
    ],
    "goes with its last name, though it was stored by hash": [
        ([Call(0, 1, NAMED, 201, "a"), Call(2, 3, STORED, 200), Call(4, 5, UNNAMED, 200, "a")],
         GONE)
    ],
    "lost in the second crash": [([Call(0, 1, STORED, 200)], THERE), ([], GONE)],
    "found missing, and back after the next crash": [
        ([unanswered(0, STORED)], GONE), ([], THERE)
    ],
    "stored by hash before the first crash, gone with its last name after it": [
        ([Call(0, 1, STORED, 200), Call(0, 1, NAMED, 201, "a")], ids("a")),
        ([Call(0, 1, UNNAMED, 200, "a")], GONE),
    ],
}  # fmt: skip


def judge(rounds: list[Round]) -> list[bool]:
    history = History()
    return [not history.judge({"d": calls}, {"d": found}) for calls, found in rounds]


@pytest.mark.parametrize("rounds", GOOD.values(), ids=GOOD)
def test_what_can_be_explained(rounds: list[Round]) -> None:
    assert all(judge(rounds))


@pytest.mark.parametrize("rounds", BAD.values(), ids=BAD)
def test_what_cannot_be_explained(rounds: list[Round]) -> None:
    *earlier, last = judge(rounds)
    assert all(earlier)
    assert not last


def test_contents_are_judged_apart() -> None:
    history = History()
    calls = {"one": [Call(0, 1, STORED, 200)], "other": [Call(0, 1, STORED, 200)]}
    assert list(history.judge(calls, {"one": THERE, "other": GONE})) == ["other"]


CUT = (5.0, 6.0)
BEFORE_THE_CUT = {
    "answered before it": (Call(1, 4, STORED, 200), Call(1, 4, STORED, 200)),
    "refused before it": (Call(1, 4, FREED, 404), Call(1, 4, FREED, 404)),
    "answered while it was cut": (Call(1, 5.5, STORED, 200), unanswered(1, STORED)),
    "answered after it": (Call(1, 7, NAMED, 201, "a"), unanswered(1, NAMED, "a")),
    "refused after it": (Call(1, 7, FREED, 404), None),
    "never answered": (unanswered(1, FREED), unanswered(1, FREED)),
    "sent after it": (Call(6.5, 7, STORED, 200), None),
    "sent after it, and never answered": (unanswered(6.5, STORED), None),
}


@pytest.mark.parametrize(("call", "known"), BEFORE_THE_CUT.values(), ids=BEFORE_THE_CUT)
def test_what_is_known_of_a_call_when_the_power_is_cut(call: Call, known: Call | None) -> None:
    assert before_the_cut(call, *CUT) == known
