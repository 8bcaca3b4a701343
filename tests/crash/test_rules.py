"""The rules about the order of operations, on steps written by hand."""

from __future__ import annotations

import pytest

from tests.crash.order import Step, broken, journaled

STAGED, DIGEST, BLOB = ".tmp/1", "abcd", "ab/abcd"
WRITE, FLUSH = ("write content", STAGED), ("flush content", STAGED)
NAME = ("name content", BLOB, (DIGEST,), STAGED)
APPEND, FLUSH_JOURNAL = ("append", ".journal/a", (DIGEST,)), ("flush journal", ".journal/a")
SYNC, EMPTY, EMPTY_OTHER = (
    ("flush everything", "."), ("empty journal", ".journal/a"), ("empty journal", ".journal/b"),
)  # fmt: skip
RESTORED = [WRITE, NAME]  # what an earlier journal has

RIGHT = {
    "journaled": [APPEND, FLUSH_JOURNAL, WRITE, NAME, SYNC, EMPTY],
    "flushed alone": [WRITE, FLUSH, NAME, EMPTY],
    "in another journal": [APPEND, FLUSH_JOURNAL, WRITE, NAME, EMPTY_OTHER],
    "restored": [*RESTORED, SYNC, EMPTY],
}
WRONG = {
    "let go of before it is flushed": [APPEND, FLUSH_JOURNAL, WRITE, NAME, EMPTY],
    "flushed too early": [APPEND, FLUSH_JOURNAL, WRITE, SYNC, NAME, EMPTY],
    "restored and not flushed": [*RESTORED, EMPTY],
}


def steps(told: list[tuple[str, ...]], *, restored: bool) -> list[Step]:
    """Number them: one after the other."""
    before = journaled(DIGEST) if restored else []
    return [*before, *(Step(at, at, *each) for at, each in enumerate(told))]


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_order(case: str) -> None:
    assert broken(steps(RIGHT[case], restored=case == "restored")) == []


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_order(case: str) -> None:
    (why,) = broken(steps(WRONG[case], restored=case.startswith("restored")))
    assert why.startswith("no flush everything between")
