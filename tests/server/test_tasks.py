"""Tasks of the loop: what they may ask of its pool, and how they begin and end."""

from __future__ import annotations

import threading
from math import inf

import pytest

from httpd.server.loop import Loop
from httpd.traps import DeadlineExpired, in_pool, pause, readable, start, together
from tests.daemons import PATIENCE
from tests.server.conftest import Pair, turn_until

# Jobs


def test_a_job_runs_in_a_thread_and_brings_its_result(loop: Loop) -> None:
    results: list[int] = []

    async def task() -> None:
        results.append(await in_pool(threading.get_ident))

    loop.spawn(task())
    turn_until(loop, lambda: results)
    assert results[0] != threading.get_ident()


def test_a_job_brings_its_error(loop: Loop) -> None:
    errors: list[str] = []

    async def task() -> None:
        with pytest.raises(ValueError, match="invalid literal") as caught:
            await in_pool(int, "five")
        errors.append(str(caught.value))

    loop.spawn(task())
    turn_until(loop, lambda: errors)


def test_a_job_may_be_done_before_it_is_awaited(loop: Loop) -> None:
    results: list[int] = []

    async def task() -> None:
        job = await start(int, "5")
        while not job.done:
            await pause(loop.now)
        results.append(await job)
        results.append(await in_pool(int, "6"))  # the first one's end disturbs nothing

    loop.spawn(task())
    turn_until(loop, lambda: len(results) == 2)
    assert results == [5, 6]


def test_tasks_share_a_call(loop: Loop) -> None:
    results: list[int] = []

    def double(items: list[int]) -> list[int]:
        return [2 * item for item in items]

    async def task(item: int) -> None:
        results.append(await together(double, item))

    for item in range(5):
        loop.spawn(task(item))
    turn_until(loop, lambda: len(results) == 5)
    assert sorted(results) == [0, 2, 4, 6, 8]


def test_several_jobs_of_one_task_run_at_the_same_time(loop: Loop) -> None:
    barrier = threading.Barrier(3)
    results: list[int] = []

    async def task() -> None:
        jobs = [await start(barrier.wait, PATIENCE) for _ in range(3)]
        results.extend([await job for job in reversed(jobs)])

    loop.spawn(task())
    turn_until(loop, lambda: results)
    assert sorted(results) == [0, 1, 2]


# Tasks


def test_a_task_that_fails_is_logged_and_ends_alone(
    loop: Loop, pair: Pair, logged: list[str]
) -> None:
    near, far = pair
    survived: list[bytes] = []

    async def bad() -> None:
        await pause(loop.now)
        raise RuntimeError("a fault of ours")

    async def good() -> None:
        await readable(near.fileno())
        survived.append(near.recv(9))

    loop.spawn(bad())
    loop.spawn(good())
    turn_until(loop, lambda: logged)
    assert "RuntimeError: a fault of ours" in logged[0]
    far.send(b"x")
    turn_until(loop, lambda: survived)


def test_with_a_vital_task_the_loop_fails(loop: Loop, pair: Pair, logged: list[str]) -> None:
    near, far = pair

    async def vital() -> None:
        await readable(near.fileno())
        raise RuntimeError("a fault of ours")

    loop.spawn(vital(), vital=True)
    far.send(b"x")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        loop.turn()
    assert "RuntimeError: a fault of ours" in logged[0]


def test_a_dropped_task_is_never_resumed(loop: Loop, pair: Pair) -> None:
    near, far = pair
    resumed: list[str] = []

    async def wait(name: str, deadline: float) -> None:
        try:
            await readable(near.fileno(), deadline)
        except DeadlineExpired:
            resumed.append(name)
        resumed.append(name)

    loop.drop(loop.spawn(wait("waits for ever", inf)))
    loop.drop(loop.spawn(wait("waits for long", loop.now + 0.01)))
    far.send(b"x")
    done: list[bool] = []

    async def later() -> None:
        await pause(loop.now + 0.3)
        done.append(True)

    loop.spawn(later())
    turn_until(loop, lambda: done)
    assert resumed == []


def test_a_task_can_spawn_another_that_runs_first(loop: Loop) -> None:
    steps: list[str] = []

    async def child() -> None:
        steps.append("child begins")
        await pause(loop.now)
        steps.append("child ends")

    async def parent() -> None:
        steps.append("parent begins")
        loop.spawn(child())
        steps.append("parent ends")

    loop.spawn(parent())
    turn_until(loop, lambda: len(steps) == 4)
    assert steps == ["parent begins", "child begins", "parent ends", "child ends"]
