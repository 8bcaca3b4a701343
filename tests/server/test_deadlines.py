from __future__ import annotations

import weakref
from math import inf

import pytest

from httpd.server.deadlines import TICK, Deadlines
from httpd.server.loop import Task


class Waiter(Task):
    """A task of which only the deadline counts."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.slot = None


@pytest.fixture
def wheel() -> Deadlines:
    return Deadlines()


def filed(wheel: Deadlines, deadline: float) -> Task:
    waiter = Waiter(deadline)
    wheel.file(waiter)
    return waiter


def moved(wheel: Deadlines, waiter: Task, deadline: float) -> None:
    waiter.deadline = deadline
    wheel.file(waiter)


@pytest.mark.parametrize("deadline", [0.0, 0.1, TICK, TICK + 1e-9, 7.06, 86400.0, 1e9 + 0.3])
def test_a_deadline_is_never_early_and_a_tick_late_at_most(
    wheel: Deadlines, deadline: float
) -> None:
    waiter = filed(wheel, deadline)
    assert wheel.expired(deadline - 1e-6) == []
    assert wheel.expired(deadline + TICK) == [waiter]
    assert wheel.expired(deadline + 1000) == []


def test_the_wait_ends_when_the_first_slot_comes_up(wheel: Deadlines) -> None:
    assert wheel.until_next(5.0) == -1
    filed(wheel, 9.0)
    filed(wheel, 6.0)
    assert wheel.expired(5.0 + wheel.until_next(5.0)) != []
    assert wheel.until_next(7.0) == pytest.approx(2.0 + TICK)
    assert wheel.until_next(100.0) == 0


def test_a_deadline_that_moves_later_is_found_at_its_new_place(wheel: Deadlines) -> None:
    waiter = filed(wheel, 1.0)
    slot = waiter.slot
    moved(wheel, waiter, 5.0)
    assert waiter.slot == slot  # lazy: it costs nothing until the old slot comes up
    assert wheel.expired(2.0) == []
    assert wheel.expired(4.99) == []
    assert wheel.expired(5.2) == [waiter]


def test_a_deadline_that_moves_earlier_is_found_once(wheel: Deadlines) -> None:
    waiter = filed(wheel, 50.0)
    moved(wheel, waiter, 1.0)
    assert wheel.expired(1.2) == [waiter]
    assert wheel.expired(60.0) == []


def test_a_task_that_stopped_waiting_leaves_the_wheel(wheel: Deadlines) -> None:
    waiter = filed(wheel, 1.0)
    waiter.deadline = inf
    assert wheel.expired(2.0) == []
    assert waiter.slot is None
    assert wheel.until_next(2.0) == -1


def test_a_dropped_task_is_kept_in_memory_by_nothing(wheel: Deadlines) -> None:
    waiter = filed(wheel, 1.0)
    gone = weakref.ref(waiter)
    wheel.drop(waiter)
    wheel.drop(waiter)
    del waiter
    assert gone() is None
    assert wheel.expired(2.0) == []


def test_all_that_share_a_slot_expire_together(wheel: Deadlines) -> None:
    early = {filed(wheel, deadline) for deadline in (3.0, 3.01, 3.02)}
    filed(wheel, 4.0)
    assert set(wheel.expired(3.5)) == early
