from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.server.pool import MOST_TOGETHER, TURNS, Pool
from httpd.traps import Job, Lane
from tests.daemons import PATIENCE
from tests.pools import close

# More than the address space of a process holds, so that no thread can have it.
IMPOSSIBLE_STACK = 1 << 47


@pytest.fixture
def pools() -> Iterator[Callable[[int], Pool]]:
    made: list[Pool] = []

    def make(size: int) -> Pool:
        made.append(Pool(size))
        return made[-1]

    yield make
    for pool in made:
        close(pool)


def started(pool: Pool, function: Callable[..., Any], *args: Any) -> Job[Any]:
    job: Job[Any] = Job(function, args)
    pool.start(job)
    return job


def collected(pool: Pool, count: int) -> list[Job[Any]]:
    jobs: list[Job[Any]] = []
    poll = select.poll()
    poll.register(pool.fileno(), select.POLLIN)
    while len(jobs) < count:
        assert poll.poll(PATIENCE * 1000), "no job has finished"
        jobs += pool.collect()
    return jobs


def test_jobs_of_one_thread_run_and_are_collected_in_their_order(
    pools: Callable[[int], Pool],
) -> None:
    pool, ran = pools(1), list[int]()
    jobs = [started(pool, ran.append, number) for number in range(50)]
    assert collected(pool, 50) == jobs
    assert ran == list(range(50))


def test_a_thread_does_not_interrupt_who_gives_it_work(pools: Callable[[int], Pool]) -> None:
    pool = pools(1)
    job = started(pool, os.sched_getscheduler, 0)
    collected(pool, 1)
    assert job.result == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_thread_works_where_it_may_not_choose_how(
    pools: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    pool = pools(1)
    job = started(pool, sum, [1, 2])
    collected(pool, 1)
    assert job.result == 3


def test_as_many_jobs_run_at_once_as_there_are_threads(pools: Callable[[int], Pool]) -> None:
    pool, together = pools(3), threading.Barrier(3)
    jobs = [started(pool, together.wait, PATIENCE) for _ in range(3)]
    collected(pool, 3)
    assert {job.result for job in jobs} == {0, 1, 2}


def test_no_more_jobs_run_at_once_than_there_are_threads(pools: Callable[[int], Pool]) -> None:
    pool, gate = pools(2), threading.Event()
    names: set[str] = set()

    def work() -> None:
        names.add(threading.current_thread().name)
        gate.wait(PATIENCE)

    jobs = [started(pool, work) for _ in range(6)]
    gate.set()
    collected(pool, len(jobs))
    assert len(names) <= 2


def test_one_job_after_the_other_needs_one_thread(pools: Callable[[int], Pool]) -> None:
    pool, names = pools(8), set[str]()
    for _ in range(10):
        started(pool, lambda: names.add(threading.current_thread().name))
        collected(pool, 1)
    assert len(names) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_an_error_is_kept_and_its_thread_goes_on(
    pools: Callable[[int], Pool], error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error

    pool = pools(1)
    failed, good = started(pool, fail), started(pool, lambda: 7)
    collected(pool, 2)
    assert isinstance(failed.error, error)
    assert failed.result is None
    assert (good.result, good.error) == (7, None)


@pytest.fixture
def no_more_threads() -> Iterator[Callable[[], None]]:
    """Return what makes the system refuse every further thread."""
    usual = threading.stack_size()
    yield lambda: void(threading.stack_size(IMPOSSIBLE_STACK))
    threading.stack_size(usual)


def void(_: object) -> None:
    """Drop a result."""


def test_a_pool_that_can_get_no_thread_fails_the_job_and_recovers(
    pools: Callable[[int], Pool], no_more_threads: Callable[[], None]
) -> None:
    pool, usual = pools(1), threading.stack_size()
    no_more_threads()
    failed = started(pool, lambda: 1)
    assert (failed.done, type(failed.error)) == (True, RuntimeError)
    threading.stack_size(usual)
    job = started(pool, lambda: 2)
    assert collected(pool, 1) == [job]


def test_a_pool_that_can_get_no_further_thread_goes_on_with_what_it_has(
    pools: Callable[[int], Pool], no_more_threads: Callable[[], None]
) -> None:
    pool, gate = pools(2), threading.Event()
    jobs = [started(pool, gate.wait, PATIENCE)]
    no_more_threads()
    jobs.append(started(pool, lambda: 2))
    gate.set()
    assert collected(pool, 2) == jobs


# Calls that are shared


class Slow:
    """A shared call that waits at its gate, and keeps what it was called with."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.calls: list[list[int]] = []

    def double(self, items: list[int]) -> list[int | Exception]:
        self.calls.append(items)
        self.entered.set()
        self.gate.wait(PATIENCE)
        return [2 * item if item else ValueError("nothing") for item in items]


def shared(pool: Pool, function: Callable[..., Any], item: object) -> Job[Any]:
    job: Job[Any] = Job(function, (item,), shared=True)
    pool.start(job)
    return job


def test_what_comes_during_a_shared_call_goes_into_the_next(
    pools: Callable[[int], Pool],
) -> None:
    pool, slow = pools(2), Slow()
    jobs = [shared(pool, slow.double, 1)]
    assert slow.entered.wait(PATIENCE)
    jobs += [shared(pool, slow.double, number) for number in (2, 0, 3)]
    slow.gate.set()
    collected(pool, len(jobs) + 1)  # and the job that has made the calls
    assert slow.calls == [[1], [2, 0, 3]]
    assert [job.result for job in jobs] == [2, 4, None, 6]
    assert [type(job.error) for job in jobs] == [type(None), type(None), ValueError, type(None)]


def test_a_shared_call_has_an_end_of_items(pools: Callable[[int], Pool]) -> None:
    pool, slow = pools(1), Slow()
    jobs = [shared(pool, slow.double, number) for number in range(MOST_TOGETHER + 10)]
    slow.gate.set()
    collected(pool, len(jobs) + 1)
    assert max(map(len, slow.calls)) <= MOST_TOGETHER
    assert [item for call in slow.calls for item in call] == list(range(MOST_TOGETHER + 10))


def test_shared_calls_of_different_functions_are_apart(pools: Callable[[int], Pool]) -> None:
    pool, one, other = pools(2), Slow(), Slow()
    jobs = [shared(pool, slow.double, number) for number, slow in ((1, one), (2, other))]
    for slow in one, other:
        assert slow.entered.wait(PATIENCE)
        slow.gate.set()
    collected(pool, 4)
    assert [job.result for job in jobs] == [2, 4]


def test_a_shared_call_that_fails_fails_for_all_and_the_next_is_made(
    pools: Callable[[int], Pool],
) -> None:
    pool = pools(1)

    def fail(items: list[int]) -> list[int]:
        raise ZeroDivisionError

    for _ in range(2):
        jobs = [shared(pool, fail, number) for number in range(3)]
        collected(pool, 4)
        assert {type(job.error) for job in jobs} == {ZeroDivisionError}


def test_a_shared_call_that_can_get_no_thread_fails_and_the_next_is_made(
    pools: Callable[[int], Pool], no_more_threads: Callable[[], None]
) -> None:
    pool, usual, slow = pools(1), threading.stack_size(), Slow()
    slow.gate.set()
    no_more_threads()
    failed = shared(pool, slow.double, 1)
    assert (failed.done, type(failed.error)) == (True, RuntimeError)
    threading.stack_size(usual)
    job = shared(pool, slow.double, 2)
    collected(pool, 2)
    assert (job.result, slow.calls) == (4, [[2]])


# Lanes


def started_in(pool: Pool, lane: Lane, function: Callable[..., Any], *args: Any) -> Job[Any]:
    job: Job[Any] = Job(function, args, lane=lane)
    pool.start(job)
    return job


def test_jobs_of_a_lane_run_one_at_a_time_in_their_order(pools: Callable[[int], Pool]) -> None:
    pool, lane, at_work = pools(4), Lane(), threading.Lock()
    ran: list[int] = []

    def work(number: int) -> None:
        assert at_work.acquire(blocking=False)
        ran.append(number)
        at_work.release()

    jobs = [started_in(pool, lane, work, number) for number in range(500)]
    assert collected(pool, 500) == jobs
    assert [job.error for job in jobs] == [None] * 500
    assert ran == list(range(500))


def test_lanes_run_beside_each_other(pools: Callable[[int], Pool]) -> None:
    pool, both = pools(4), threading.Barrier(2)
    jobs = [started_in(pool, Lane(), both.wait, PATIENCE) for _ in range(2)]
    collected(pool, 2)
    assert {job.result for job in jobs} == {0, 1}


def test_a_lane_goes_on_after_an_error_and_after_it_was_empty(
    pools: Callable[[int], Pool],
) -> None:
    pool, lane = pools(2), Lane()
    for _ in range(3):
        failed = started_in(pool, lane, int, "none")
        good = started_in(pool, lane, int, "7")
        assert collected(pool, 2) == [failed, good]
        assert isinstance(failed.error, ValueError)
        assert good.result == 7


def test_who_waits_for_a_thread_has_it_after_some_turns_of_a_lane(
    pools: Callable[[int], Pool],
) -> None:
    pool, lane, gate = pools(1), Lane(), threading.Event()
    started_in(pool, lane, gate.wait, PATIENCE)
    many = [started_in(pool, lane, int) for _ in range(3 * TURNS)]
    other = started(pool, int)
    gate.set()
    done = collected(pool, len(many) + 2)
    assert done.index(other) == TURNS
    assert [job for job in done if job in many] == many
