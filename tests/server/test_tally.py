from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from httpd.server.tally import GENERATIONS, Tally


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally(2)
    yield tally
    os.close(tally._file)


class Child:
    """A process that has claimed a row, done something, and waits to be ended."""

    def __init__(self, tally: Tally, work: Callable[[], object]) -> None:
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            tally.claim()
            work()
            os.write(tell, b".")
            signal.pause()
        os.close(tell)
        assert os.read(ready, 1) == b"."
        os.close(ready)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_every_client_has_its_own_number(tally: Tally) -> None:
    tally.claim()
    assert [tally.add("a", 1), tally.add("a", 1), tally.add("b", 1)] == [1, 2, 1]
    assert [tally.add("a", -1), tally.add("a", -1), tally.add("b", 0)] == [1, 0, 1]


def test_a_client_in_one_place_only_is_counted_once(tally: Tally) -> None:
    tally.claim()
    both = next(text for text in map(str, range(10**7)) if len(set(tally.places_of(text))) == 1)
    assert [tally.add(both, 1), tally.add(both, 1), tally.add(both, -1)] == [1, 2, 1]


def test_who_shares_one_place_is_not_taken_for_the_other(tally: Tally) -> None:
    tally.claim()
    first = {client: tally.places_of(client) for client in map(str, range(3000))}
    by_high: dict[int, str] = {}
    for client, (high, low) in first.items():
        other = by_high.setdefault(high, client)
        if other != client and {high, low} != set(first[other]):
            break
    tally.add(client, 5)
    assert tally.add(other, 1) == 1


def test_what_other_workers_count_is_seen_until_they_die(tally: Tally) -> None:
    tally.claim()
    tally.add("a", 1)
    children = [Child(tally, lambda: tally.add("a", 10)) for _ in range(2)]
    try:
        assert tally.add("a", 0) == 21
        children[0].kill()
        assert tally.add("a", 0) == 21  # nobody has looked
        tally.forget_the_dead()
        assert tally.add("a", 0) == 11  # the living one still counts, and so do we
    finally:
        children[1].kill()


def test_all_workers_have_one_sum(tally: Tally) -> None:
    tally.claim()
    tally.add_to_all(1)
    child = Child(tally, lambda: tally.add_to_all(10))
    assert tally.total == 11
    child.kill()
    tally.forget_the_dead()
    tally.add_to_all(-1)
    assert tally.total == 0


def test_a_successor_begins_with_nothing(tally: Tally) -> None:
    tally.claim()
    for _ in range(3 * 2 * GENERATIONS):  # more than there are rows
        Child(tally, lambda: tally.add("a", 1)).kill()
    tally.forget_the_dead()
    assert tally.add("a", 1) == 1


def test_more_workers_than_rows_count_on_their_own(tally: Tally) -> None:
    children = [Child(tally, lambda: tally.add("a", 1)) for _ in range(2 * GENERATIONS)]
    try:
        tally.claim()
        assert tally.add("a", 1) == 2 * GENERATIONS + 1
        extra = Child(tally, lambda: tally.add("a", 100))
        assert tally.add("a", 0) == 2 * GENERATIONS + 1
        extra.kill()
    finally:
        for child in children:
            child.kill()


def test_a_next_self_of_the_master_goes_on_with_it(tally: Tally) -> None:
    child = Child(tally, lambda: tally.add("a", 3))
    for workers in 1, 2, 5:  # another number is no reason to forget anybody
        again = Tally(workers, tally.fileno())
        again.claim()
        assert again.add("a", 0) == 3
        assert again.places_of("a") == tally.places_of("a")
    child.kill()
