"""The corpus of requests, replayed against the protocol floor alone."""

from __future__ import annotations

import pytest

from tests.corpus import CASES, DECIDED, Case
from tests.streams import CLOSED, MORE, OPEN, read_stream


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_stream_reads_the_same_however_it_arrives(case: Case) -> None:
    for pieces in case.splits(case.data):
        assert read_stream(pieces) == case.reading


@pytest.mark.parametrize("case", DECIDED.values(), ids=DECIDED)
def test_what_follows_changes_nothing(case: Case) -> None:
    data, reading = case.followed()
    for pieces in case.splits(data):
        assert read_stream(pieces) == reading


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_valid_and_invalid_are_what_their_folder_says(case: Case) -> None:
    refused = [answer for answer in case.reading.answers if answer.isdecimal()]
    if case.name.startswith("valid/"):
        assert not refused
        assert case.reading.end != MORE
    elif case.reading.end == MORE:
        assert not refused
    else:
        assert refused == [case.reading.answers[-1]]
        assert case.reading.end in (OPEN, CLOSED)
