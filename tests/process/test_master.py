"""The master's work, seen from outside: real forks, real signals, workers of a few lines."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.process import proc
from httpd.process.crew import BackOff
from tests.daemons import until
from tests.process.stubs import StubDaemon


def test_as_many_workers_as_asked_for_serve(daemon: StubDaemon) -> None:
    daemon.start("--workers=3")
    workers = daemon.workers()
    assert len(workers) == 3
    assert daemon.ask() in workers


def test_every_worker_serves(daemon: StubDaemon) -> None:
    daemon.start()
    busy = daemon.ask_slowly()
    (free,) = {daemon.ask() for _ in range(5)}
    assert {free, int(busy.answer())} == daemon.workers()


def test_killed_worker_is_replaced_and_swept_after(daemon: StubDaemon) -> None:
    daemon.start()
    before, sweeps = daemon.workers(), daemon.sweeps()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    assert daemon.ask() != victim  # whoever is left serves at once
    until(lambda: len(daemon.workers() - {victim}) == 2, "a new worker comes")
    until(lambda: daemon.sweeps() == sweeps + 1, "the store is swept")
    assert f"worker {victim} was killed by SIGKILL" in daemon.life_log()
    assert daemon.command("get_pid").stdout == f"{daemon.pid}\n"


def test_all_workers_killed_at_once_are_replaced(daemon: StubDaemon) -> None:
    daemon.start()
    before = daemon.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert daemon.ask() not in before
    until(lambda: len(daemon.workers()) == 2)


def test_workers_that_keep_dying_are_replaced_when_they_can_live_again(daemon: StubDaemon) -> None:
    daemon.start()
    daemon.order("crash")
    os.kill(min(daemon.workers()), signal.SIGKILL)
    until(lambda: daemon.life_log().count("exited with status 9") >= 3, "several attempts")
    daemon.countermand("crash")
    until(lambda: len(daemon.workers()) == 2)
    assert daemon.ask()


def test_delays_double_up_to_a_bound_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    hiring = BackOff()
    delays = []
    for _ in range(8):
        hiring.note(settled=False)
        hiring.note(settled=False)  # died together with the one before: no further delay
        delays.append(round(hiring.until - now, 3))
        now = hiring.until
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    hiring.note(settled=True)
    assert hiring.until <= now
    hiring.note(settled=False)
    assert hiring.until - now == pytest.approx(0.1)


# ---- TERM, INT and QUIT


def test_term_lets_a_request_be_finished_and_lets_nobody_in(daemon: StubDaemon) -> None:
    daemon.start()
    slow = daemon.ask_slowly()
    daemon.signal(signal.SIGTERM)
    until(lambda: len(daemon.workers()) == 1, "the idle worker leaves")
    with pytest.raises(ConnectionRefusedError):
        until(lambda: daemon.connect().close(), "the listeners are closed")
    assert daemon.command("start").returncode == 1  # not while the old one is still here
    assert int(slow.answer()) > 0
    until(daemon.gone)


def test_second_term_hastens(daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=86400")
    slow = daemon.ask_slowly()
    daemon.signal(signal.SIGTERM)
    until(lambda: len(daemon.workers()) == 1)
    daemon.signal(signal.SIGTERM)
    until(daemon.gone)
    assert slow.rest() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_at_once(number: signal.Signals, daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=86400")
    slow = daemon.ask_slowly()
    daemon.signal(number)
    until(daemon.gone)
    assert slow.rest() == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_does_not_listen_is_killed(number: signal.Signals, daemon: StubDaemon) -> None:
    daemon.shorten(master__QUIT_SECONDS=0.1)
    daemon.order("deaf")
    daemon.start("--drain-timeout=0")
    daemon.signal(number)
    until(daemon.gone)
    assert daemon.life_log().count("is killed: it has not kept its deadline") == 2


# ---- USR1


def test_usr1_reopens_the_logs_of_all_processes(daemon: StubDaemon) -> None:
    daemon.start()
    log = daemon.logs / "filestored.log"
    log.rename(daemon.logs / "moved")
    daemon.signal(signal.SIGUSR1)
    lines = ["log files reopened", *(f"worker {pid} reopens" for pid in daemon.workers())]
    until(lambda: all(line in daemon.life_log() for line in lines), "new lines in a new file")


def test_signals_to_a_starting_worker_wait_for_its_handlers(daemon: StubDaemon) -> None:
    daemon.start()
    old = daemon.workers()
    daemon.order("hang")
    os.kill(min(old), signal.SIGKILL)
    (fresh,) = until(lambda: daemon.workers() - old, "another one is started")
    daemon.signal(signal.SIGUSR1)
    until(lambda: "log files reopened" in daemon.life_log())
    daemon.countermand("hang")
    until(lambda: f"worker {fresh} reopens" in daemon.life_log())
    assert "SIGUSR1" not in daemon.life_log()  # its default action would have been to kill


# ---- the start


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("fail", "RuntimeError: told to fail"),
        ("die", "exited with status 7 before it was ready"),
        ("hang", "no worker came up within 0 s"),
        ("no-fork", "no process can be made for a worker"),
    ],
)
def test_start_fails_with_the_reason(order: str, reason: str, daemon: StubDaemon) -> None:
    daemon.shorten(crew__START_SECONDS=0.2, master__QUIT_SECONDS=0.1)
    daemon.order(order)
    done = daemon.command("start")
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stdout == ""
    assert daemon.gone()  # all of it, before the shell goes on
    assert not daemon.pidfile.exists()
    assert "the start failed" in daemon.life_log()


def test_term_during_the_start(daemon: StubDaemon) -> None:
    daemon.shorten(master__QUIT_SECONDS=0.1)
    daemon.order("hang")
    with subprocess.Popen(
        daemon.line("start", "--drain-timeout=0"),
        env=daemon.env,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        until(lambda: daemon.life_log().count("forked") == 2)
        os.kill(int(daemon.pidfile.read_text()), signal.SIGTERM)
        _, told = launcher.communicate()
    # It may have come up before the signal came.
    assert (launcher.returncode, told) in [
        (1, "filestored: stopped before it was ready\n"),
        (0, ""),
    ]
    until(daemon.gone)


def ignore(*numbers: signal.Signals) -> Callable[[], None]:
    def in_child() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return in_child


def test_signals_that_the_shell_had_ignored_count(daemon: StubDaemon) -> None:
    done = subprocess.run(
        daemon.line("start"), env=daemon.env, text=True, capture_output=True, check=True,
        preexec_fn=ignore(signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM),
    )  # fmt: skip
    daemon.note(done.stdout)
    before = daemon.workers()
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(daemon.workers() - {min(before)}) == 2)
    daemon.signal(signal.SIGINT)
    until(daemon.gone)


# ---- the death of the master


def test_workers_leave_a_master_that_was_killed_and_the_next_start_works(
    daemon: StubDaemon,
) -> None:
    daemon.start()
    workers = daemon.workers()
    daemon.signal(signal.SIGKILL)
    daemon.start()  # at once, on the same port
    assert daemon.ask() in daemon.workers()
    until(lambda: not any(proc.stat(pid) for pid in workers), "the orphans leave")


def test_worker_keeps_nothing_of_the_masters(daemon: StubDaemon) -> None:
    daemon.start()
    before = daemon.workers()
    os.kill(min(before), signal.SIGKILL)  # the next one is forked beside a worker that is ready
    until(lambda: len(daemon.workers() - {min(before)}) == 2 and daemon.ask())
    # The pipe that a worker says by that it is ready is there until the master has read it.
    (life_line,) = until(lambda: pipes if len(pipes := pipes_of(daemon.pid)) == 1 else None)
    master = descriptors(daemon.pid)
    assert str(daemon.pidfile) in master
    for worker in daemon.workers():
        held = descriptors(worker)
        assert str(daemon.pidfile) not in held
        assert life_line in held
        assert modes(worker, life_line) == {os.O_RDONLY}


def descriptors(pid: int) -> list[str]:
    """Return what the process has open."""
    return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def pipes_of(pid: int) -> set[str]:
    return {target for target in descriptors(pid) if target.startswith("pipe:")}


def modes(pid: int, target: str) -> set[int]:
    """Return the ways in which the process has it open."""
    entries = [e for e in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(e) == target]
    texts = [Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text() for entry in entries]
    return {int(text.split()[3], 8) & os.O_ACCMODE for text in texts}
