"""Workers that live and do nothing: the master sees it by their heartbeats."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.process.crew import OVERSLEPT_SECONDS, Crew, Role, Worker
from httpd.process.heartbeats import SLOTS, Heartbeats
from tests.daemons import Daemon, until
from tests.process.stubs import StubDaemon


def test_heartbeats_are_seen_by_whoever_shares_them() -> None:
    table = Heartbeats()
    assert table.last(3) == 0.0
    before = time.monotonic()
    pid = os.fork()
    if pid == 0:
        table.beat(3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert before <= table.last(3) <= time.monotonic()
    assert Heartbeats(os.dup(table.fileno())).last(3) == table.last(3)
    assert table.last(2) == table.last(4) == 0.0


def test_slots_are_used_again() -> None:
    table = Heartbeats()
    assert table.free_slot({0, 1, 3}) == 2
    with pytest.raises(OSError, match="8192 workers already"):
        table.free_slot(set(range(SLOTS)))


def test_stopped_worker_is_replaced(daemon: StubDaemon) -> None:
    daemon.start("--stall-timeout=0.3")
    victim = min(daemon.workers())
    os.kill(victim, signal.SIGSTOP)
    until(lambda: len(daemon.workers() - {victim}) == 2, "another one comes")
    until(lambda: victim not in daemon.workers())
    log = daemon.life_log()
    assert f"worker {victim} is killed: its loop has not turned for 0.3 s" in log
    assert f"worker {victim} was killed by SIGKILL" in log
    assert daemon.ask()


@pytest.mark.long
def test_worker_that_is_stuck_after_a_reload_is_replaced(daemon: StubDaemon) -> None:
    daemon.start("--stall-timeout=0.5")
    assert daemon.command("reload").returncode == 0
    until(lambda: len(daemon.workers()) == 2)
    before = daemon.workers()
    daemon.order("stall")
    until(lambda: not before & daemon.workers())
    daemon.countermand("stall")
    until(lambda: len(daemon.workers()) == 2)


@pytest.mark.long
def test_nobody_is_replaced_where_the_timeout_is_0(daemon: StubDaemon) -> None:
    daemon.start("--stall-timeout=0")
    before = daemon.workers()
    daemon.order("stall")
    os.kill(min(before), signal.SIGKILL)  # so that the master looks at all of them
    until(lambda: len(daemon.workers() - {min(before)}) == 2)
    assert max(before) in daemon.workers()
    assert "its loop has not turned" not in daemon.life_log()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with the workers that it really has, not started yet."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()


@pytest.mark.long
def test_real_worker_that_is_stopped_is_replaced_and_the_others_are_not(real: Daemon) -> None:
    real.start("--stall-timeout=3")  # thrice as long as between two heartbeats
    victim, other = sorted(real.workers())
    os.kill(victim, signal.SIGSTOP)
    until(lambda: len(real.workers() - {victim}) == 2)
    assert other in real.workers()
    assert f"worker {other}" not in real.life_log().partition("workers serve")[2]


# ---- the judgement


@pytest.fixture
def crew() -> Iterator[Crew]:
    """A crew of one worker that is ready: a process that sleeps."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    crew = Crew()
    crew.workers[pid] = Worker(pid, -1, Role.CREW, 0.0, float("inf"), 0)
    yield crew
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(crew.life_in)
    os.close(crew.life_out)


def test_master_that_was_stopped_itself_judges_nobody(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = crew
    crew.heartbeats.beat(0)
    asked = crew.next_deadline(5.0)
    woken = asked + OVERSLEPT_SECONDS + 1
    monkeypatch.setattr("time.monotonic", lambda: woken)
    assert crew.stalled(worker, 5.0)
    crew.awake(asked)
    assert not crew.stalled(worker, 5.0)
    assert crew.next_deadline(5.0) == woken + 5.0
    monkeypatch.setattr("time.monotonic", lambda: woken + 5)
    crew.awake(woken + 5)
    assert crew.stalled(worker, 5.0)


def test_worker_that_death_is_slow_with_is_killed_once(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = crew
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    kills: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, _: kills.append(pid))
    for _ in range(3):
        crew.kill_overdue(5.0)
    monkeypatch.undo()
    assert kills == [worker.pid]
    assert crew.next_deadline(5.0) == float("inf")  # nor does the master wake up for it
