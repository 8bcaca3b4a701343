from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import pytest

from httpd.server.deadlines import TICK
from httpd.server.loop import Loop
from httpd.traps import (
    DeadlineExpired,
    acceptable,
    pause,
    readable,
    writable,
)
from tests.daemons import PATIENCE
from tests.served import listen_tcp
from tests.server.conftest import Pair, turn_until


def reached(items: Sequence[object], count: int) -> bool:
    return len(items) == count


def fill(sender: socket.socket) -> None:
    try:
        while True:
            sender.send(bytes(65536))
    except BlockingIOError:
        pass


# Descriptors


def test_a_task_runs_at_once_to_its_first_wait(loop: Loop, pair: Pair) -> None:
    near, far = pair
    steps: list[str] = []

    async def task() -> None:
        steps.append("begun")
        await readable(near.fileno())
        steps.append(near.recv(9).decode())

    loop.spawn(task())
    assert steps == ["begun"]
    far.send(b"come")
    turn_until(loop, lambda: len(steps) == 2)
    assert steps[1] == "come"


def test_a_full_socket_is_writable_when_the_peer_has_read(loop: Loop, pair: Pair) -> None:
    near, far = pair
    steps: list[str] = []

    async def writer() -> None:
        await writable(near.fileno())
        steps.append("writable")

    async def reader() -> None:
        await pause(loop.now + TICK)
        steps.append("still full")
        while True:
            try:
                far.recv(1 << 20)
            except BlockingIOError:
                return

    fill(near)
    loop.spawn(writer())
    loop.spawn(reader())
    turn_until(loop, lambda: "writable" in steps)
    assert steps == ["still full", "writable"]


def test_a_task_may_wait_for_either_direction_in_turn(loop: Loop, pair: Pair) -> None:
    near, far = pair
    received: list[bytes] = []

    async def task() -> None:
        for _ in range(3):
            await readable(near.fileno())
            received.append(near.recv(1))
            await writable(near.fileno())
            near.send(received[-1].upper())

    loop.spawn(task())
    far.send(b"abc")
    turn_until(loop, lambda: len(received) == 3)
    loop.turn()
    assert far.recv(9) == b"ABC"


def test_a_listener_is_acceptable_again_and_again(loop: Loop) -> None:
    accepted: list[socket.socket] = []

    async def task(listener: socket.socket) -> None:
        while True:
            await acceptable(listener.fileno())
            accepted.append(listener.accept()[0])
            # With nobody waiting, the next client takes the listener out of epoll for a while.
            await pause(loop.now + TICK)

    with listen_tcp() as listener:
        loop.spawn(task(listener))
        for _ in range(3):
            clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
            count = len(accepted) + 2
            turn_until(loop, partial(reached, accepted, count))
            for client in clients:
                client.close()
        loop.forget(listener.fileno())
    for each in accepted:
        each.close()


def test_a_number_that_is_used_anew_at_once_is_another_descriptor(loop: Loop, pair: Pair) -> None:
    near, far = pair
    seen: list[bytes] = []

    async def task(sock: socket.socket) -> None:
        await readable(sock.fileno())
        seen.append(sock.recv(9))

    for number in range(20):
        left, right = socket.socketpair()
        loop.spawn(task(left))
        if number % 2:  # with and without a task that is left waiting
            right.send(b"%d" % number)
            turn_until(loop, partial(seen.__contains__, b"%d" % number))
        descriptor = left.fileno()
        loop.forget(descriptor)
        left.close()
        right.close()
        os.dup2(near.fileno(), descriptor)
        again = socket.socket(fileno=descriptor)
        loop.spawn(task(again))
        far.send(b"again")
        turn_until(loop, lambda: b"again" in seen)
        seen.remove(b"again")
        loop.forget(descriptor)
        again.close()
    assert seen == [b"%d" % number for number in range(1, 20, 2)]


def test_an_event_that_nobody_waits_for_does_not_make_the_loop_spin(loop: Loop, pair: Pair) -> None:
    near, far = pair
    turns: list[None] = []
    received: list[bytes] = []
    counted: list[int] = []

    async def task() -> None:
        await readable(near.fileno())
        received.append(near.recv(1))
        await pause(loop.now + 2 * TICK)
        counted.append(len(turns))
        await readable(near.fileno())  # and it is there again for who asks
        received.append(near.recv(1))

    loop.spawn(task())
    far.send(b"ab")
    loop.after_turn.append(lambda: turns.append(None))
    turn_until(loop, lambda: len(received) == 2)
    # One turn for the byte, one for the event in vain, a few for slots of deadlines.
    assert counted[0] < 10


# Attempts


def test_an_attempt_that_leaves_nothing_to_do_lets_the_task_wait(loop: Loop, pair: Pair) -> None:
    near, far = pair
    received: list[bytes] = []
    steps: list[str] = []

    def attempt() -> float | None:
        received.append(near.recv(1))
        return loop.now + 2 * PATIENCE if received[-1] != b"c" else None

    async def task() -> None:
        # Each attempt puts off this deadline, which is over by the time that "c" is sent.
        await readable(near.fileno(), loop.now + TICK, attempt)
        steps.append("resumed")
        await readable(near.fileno())
        steps.append(near.recv(1).decode())

    loop.spawn(task())
    far.send(b"ab")
    turn_until(loop, lambda: len(received) == 2)
    later: list[float] = []

    async def wait() -> None:
        await pause(loop.now + 3 * TICK)
        later.append(loop.now)

    loop.spawn(wait())
    turn_until(loop, lambda: later)
    assert steps == []
    far.send(b"cd")
    turn_until(loop, lambda: len(steps) == 2)
    assert (received, steps) == ([b"a", b"b", b"c"], ["resumed", "d"])


def test_an_attempt_may_bring_the_deadline_nearer(loop: Loop, pair: Pair) -> None:
    near, far = pair
    steps: list[str] = []

    def attempt() -> float:
        near.recv(1)
        return loop.now + TICK

    async def task() -> None:
        try:
            await readable(near.fileno(), loop.now + 2 * PATIENCE, attempt)
        except DeadlineExpired:
            steps.append("expired")

    loop.spawn(task())
    far.send(b"a")
    turn_until(loop, lambda: steps)


def test_what_an_attempt_raises_is_raised_in_the_task(loop: Loop, pair: Pair) -> None:
    near, far = pair
    raised: list[Exception] = []

    def attempt() -> float | None:
        raise ConnectionResetError

    async def task() -> None:
        try:
            await readable(near.fileno(), attempt=attempt)
        except ConnectionResetError as error:
            raised.append(error)
        await readable(near.fileno())
        near.recv(1)

    loop.spawn(task())
    far.send(b"a")
    turn_until(loop, lambda: raised)
    loop.turn()
    with pytest.raises(BlockingIOError):
        near.recv(1)


# Deadlines


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01, TICK, 0.2])
def test_a_pause_is_never_too_short(loop: Loop, seconds: float) -> None:
    ended: list[float] = []
    deadline = time.monotonic() + seconds

    async def task() -> None:
        await pause(deadline)
        ended.append(time.monotonic())

    loop.spawn(task())
    turn_until(loop, lambda: ended)
    assert ended[0] >= deadline


@pytest.mark.parametrize("wait", [readable, writable])
def test_a_silent_descriptor_makes_its_deadline_expire(
    loop: Loop, pair: Pair, wait: Callable[..., object]
) -> None:
    near, _far = pair
    expired: list[float] = []
    deadline = time.monotonic() + 0.05

    async def task() -> None:
        try:
            await wait(near.fileno(), deadline)  # type: ignore[misc]
        except DeadlineExpired:
            expired.append(time.monotonic())

    fill(near)
    loop.spawn(task())
    turn_until(loop, lambda: expired)
    assert expired[0] >= deadline


def test_what_is_ready_counts_more_than_a_deadline_that_has_passed(loop: Loop, pair: Pair) -> None:
    near, far = pair
    received: list[bytes] = []

    async def task() -> None:
        await readable(near.fileno(), loop.now - 1)
        received.append(near.recv(9))

    far.send(b"just so")
    loop.spawn(task())
    turn_until(loop, lambda: received)


def test_each_wait_has_a_deadline_of_its_own(loop: Loop, pair: Pair) -> None:
    near, far = pair
    expired: list[tuple[float, float]] = []

    async def task() -> None:
        for seconds in (0.05, 0.3, 1000.0, 0.05):  # later, much later, and earlier again
            deadline = time.monotonic() + seconds
            far.send(b"x")
            await readable(near.fileno(), deadline)
            near.recv(9)
            if seconds < 1:
                with pytest.raises(DeadlineExpired):
                    await readable(near.fileno(), deadline)
                expired.append((deadline, time.monotonic()))

    loop.spawn(task())
    turn_until(loop, lambda: len(expired) == 3)
    assert all(deadline <= now for deadline, now in expired)


def test_after_its_deadline_a_descriptor_wakes_nobody(loop: Loop, pair: Pair) -> None:
    near, far = pair
    woken: list[float] = []

    async def task() -> None:
        with pytest.raises(DeadlineExpired):
            await readable(near.fileno(), loop.now)
        far.send(b"too late")
        await pause(loop.now + 2 * TICK)
        woken.append(loop.now)

    begun = loop.now
    loop.spawn(task())
    turn_until(loop, lambda: woken)
    assert woken[0] >= begun + 2 * TICK


def test_a_hastened_task_waits_no_longer(loop: Loop, pair: Pair) -> None:
    near, _far = pair
    ended: list[str] = []

    async def task(name: str, deadline: float) -> None:
        with pytest.raises(DeadlineExpired):
            await readable(near.fileno(), deadline)
        ended.append(name)

    hastened = loop.spawn(task("hastened", time.monotonic() + 1000))
    loop.hasten(hastened)
    assert loop._deadlines.until_next(loop.now) == 0  # not even a tick
    loop.turn()
    assert ended == ["hastened"]


def test_what_has_no_deadline_cannot_be_hastened(loop: Loop, pair: Pair) -> None:
    near, far = pair
    ended: list[str] = []

    async def task() -> None:
        await readable(near.fileno(), inf)
        ended.append("read")

    loop.hasten(loop.spawn(task()))
    loop.spawn(pause(loop.now))
    loop.turn()
    assert ended == []
    far.send(b"x")
    turn_until(loop, lambda: ended)


# The end


def test_the_loop_stops_at_the_end_of_the_turn(loop: Loop) -> None:
    turns: list[str] = []

    async def task() -> None:
        await pause(loop.now)
        loop.stop()

    loop.after_turn += [lambda: turns.append("first"), lambda: turns.append("second")]
    loop.spawn(task())
    loop.run()
    assert turns[-2:] == ["first", "second"]
