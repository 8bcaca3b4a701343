"""HUP and `reload`: the master becomes what its code is by then, and nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.process.renewal import NOBODY, Rehearsal, Succession
from tests.daemons import until
from tests.process.stubs import STUB, StubDaemon


def test_hup_brings_fresh_workers_without_a_failed_request(daemon: StubDaemon) -> None:
    daemon.start()
    old = daemon.workers()
    slow = daemon.ask_slowly()
    with daemon.asked_all_the_time() as answers:
        daemon.signal(signal.SIGHUP)
        until(lambda: answers and answers[-1] not in old, "a fresh worker answers")
        until(lambda: len(daemon.workers()) == 3, "the old one that is idle leaves")
    assert int(slow.answer()) in old
    until(lambda: len(daemon.workers()) == 2)
    assert not daemon.workers() & old
    assert daemon.pid == int(daemon.command("get_pid").stdout)


def test_no_file_gets_the_number_of_a_standard_stream(daemon: StubDaemon) -> None:
    daemon.start()
    for _ in range(2):
        assert daemon.command("reload").returncode == 0
        streams = [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)]
        assert streams == ["/dev/null"] * 3


@pytest.mark.parametrize(
    ("order", "reason"),
    [("fail", "RuntimeError: told to fail"), ("die", "exited with status 7 before it was ready")],
)
def test_hup_keeps_the_old_workers_where_fresh_ones_fail(
    order: str, reason: str, daemon: StubDaemon
) -> None:
    daemon.start()
    old = daemon.workers()
    daemon.order(order)
    daemon.signal(signal.SIGHUP)
    until(lambda: "the reload failed, the old workers go on" in daemon.life_log())
    until(lambda: daemon.workers() == old)
    assert daemon.ask() in old
    assert reason in daemon.life_log()


@pytest.mark.long
def test_fresh_worker_that_never_comes_up_is_given_up(daemon: StubDaemon) -> None:
    daemon.shorten(crew__START_SECONDS=0.5, master__QUIT_SECONDS=0.1)
    daemon.start()
    old = daemon.workers()
    daemon.order("hang")
    daemon.signal(signal.SIGHUP)
    until(lambda: "the old workers go on: no worker came up within" in daemon.life_log())
    until(lambda: daemon.workers() == old)


def rehearsing(daemon: StubDaemon) -> None:
    """Begin a reload that goes no further than its rehearsal for now."""
    daemon.order("hang")
    daemon.signal(signal.SIGHUP)
    until(lambda: len(daemon.workers()) == 3, "a rehearsal is under way")


@pytest.mark.long
def test_second_hup_during_the_first_is_refused(daemon: StubDaemon) -> None:
    daemon.start()
    old = daemon.workers()
    rehearsing(daemon)
    daemon.signal(signal.SIGHUP)
    until(lambda: "no reload: another start, reload or stop is under way" in daemon.life_log())
    refused = daemon.command("reload")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "another start, reload or stop is under way" in refused.stderr
    daemon.countermand("hang")
    until(lambda: daemon.workers() and not daemon.workers() & old)
    until(lambda: len(daemon.workers()) == 2)


@pytest.mark.long
def test_worker_that_dies_during_a_reload_is_replaced(daemon: StubDaemon) -> None:
    daemon.start()
    old = daemon.workers()
    rehearsing(daemon)
    os.kill(min(old), signal.SIGKILL)
    # Its successor hangs as well: a worker that is not ready yet passes to the next self.
    until(lambda: len(daemon.workers() - {min(old)}) == 3)
    daemon.countermand("hang")
    until(lambda: daemon.life_log().count("2 workers serve") == 2)
    until(lambda: len(daemon.workers()) == 2)
    assert not daemon.workers() & old


@pytest.mark.long
def test_stop_during_a_reload(daemon: StubDaemon) -> None:
    daemon.start()
    rehearsing(daemon)
    daemon.stop()
    until(daemon.gone, "the rehearsal's worker notices")


@pytest.mark.long
def test_signal_that_comes_while_nobody_listens_counts(daemon: StubDaemon) -> None:
    daemon.start()
    daemon.signal(signal.SIGHUP)
    until(lambda: "becomes a new master" in daemon.life_log())
    daemon.signal(signal.SIGTERM)
    until(daemon.gone)


@pytest.mark.long
def test_killed_worker_is_replaced_after_a_reload(daemon: StubDaemon) -> None:
    daemon.start()
    assert daemon.command("reload").returncode == 0
    until(lambda: len(daemon.workers()) == 2)
    victim = min(daemon.workers())
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(daemon.workers() - {victim}) == 2)
    assert daemon.ask()


@pytest.mark.long
def test_workers_leave_a_renewed_master_that_was_killed(daemon: StubDaemon) -> None:
    daemon.start()
    assert daemon.command("reload").returncode == 0
    daemon.signal(signal.SIGKILL)
    until(daemon.gone)
    daemon.start()


@pytest.mark.long
def test_request_under_way_outlives_its_workers_dismissal(daemon: StubDaemon) -> None:
    daemon.start("--idle-timeout=0.01", "--drain-timeout=0")
    slow = daemon.ask_slowly()
    for _ in range(2):
        assert daemon.command("reload").returncode == 0
    until(lambda: len(daemon.workers()) == 3, "only the busy one is left of the first")
    there = daemon.workers()  # once it has answered it may be gone at once
    assert int(slow.answer()) in there
    until(lambda: len(daemon.workers()) == 2)


# ---- new code


class Installed(StubDaemon):
    """A daemon whose program can be replaced."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.script = folder / "stub.py"
        shutil.copy(STUB, self.script)

    def install(self, line: str) -> None:
        """Let a new version's program begin with that line."""
        text = self.script.read_text()
        future = "from __future__ import annotations\n"
        self.script.write_text(text.replace(future, f"{future}\n{line}\n", 1))


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    """A daemon that is not started yet."""
    daemon = Installed(tmp_path)
    yield daemon
    daemon.order("go")
    daemon.end()


def test_new_code_is_taken_up(installed: Installed) -> None:
    installed.start()
    installed.install("NEW = True")
    installed.script.write_text(
        installed.script.read_text().replace("str(os.getpid())", "str(10**9 + NEW)")
    )
    pid = installed.pid
    done = installed.command("reload")
    assert (done.returncode, done.stdout) == (0, f"filestored has reloaded, pid {pid}\n")
    assert installed.ask() == 10**9 + 1
    assert installed.pidfile.read_text() == f"{pid}\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        pytest.param("this is no Python", "SyntaxError: invalid syntax", marks=pytest.mark.long),
        pytest.param(
            "raise SystemExit(3)", "the new code exited with status 3", marks=pytest.mark.long
        ),
        pytest.param(
            "import os; os.kill(os.getpid(), 9)",
            "the new code was killed by SIGKILL",
            marks=pytest.mark.long,
        ),
    ],
)
def test_new_code_that_does_not_start(line: str, reason: str, installed: Installed) -> None:
    installed.start()
    old = installed.workers()
    before = installed.script.read_text()
    installed.install(f"import sys\nif 'reload' not in sys.argv: {line}"
                      if "Python" not in line else line)  # fmt: skip
    installed.signal(signal.SIGHUP)
    until(lambda: f"the old workers go on: {reason}" in installed.life_log())
    assert installed.workers() == old
    assert installed.ask() in old
    if "Python" not in line:
        done = installed.command("reload")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"filestored: the daemon goes on as it was: {reason}\n"
    installed.script.write_text(before)
    assert installed.command("reload").returncode == 0  # and the next one works again
    until(lambda: not installed.workers() & old)


@pytest.mark.long
def test_new_code_that_is_gone(installed: Installed) -> None:
    installed.start()
    old = installed.workers()
    installed.script.rename(installed.folder / "elsewhere.py")
    installed.signal(signal.SIGHUP)
    until(lambda: "No such file or directory" in installed.life_log())
    assert installed.ask() in old
    (installed.folder / "elsewhere.py").rename(installed.script)


def test_rehearsal_that_takes_too_long(tmp_path: Path) -> None:
    """As for a program that cannot be run at all, which an interpreter that is gone is."""
    nothing = Succession([], False, True, NOBODY, NOBODY, [], *[NOBODY] * 3, [], [], NOBODY)
    with pytest.raises(FileNotFoundError):
        Rehearsal([str(tmp_path / "python")], [], nothing, 1.0)
    sleeper = Rehearsal(["/bin/sh", "-c", "exec sleep 60"], [], nothing, 0.0)
    sleeper.kill_overdue()
    assert os.waitpid(sleeper.pid, 0)[1] == signal.SIGKILL
    assert sleeper.failure("it was killed") == "it was killed"


# ---- the foreground


def test_foreground_daemon_keeps_its_pid_and_tells_its_service_manager(
    daemon: StubDaemon,
) -> None:
    with daemon.run() as process:
        old = daemon.workers()
        done = daemon.command("restart", f"--pidfile={daemon.pidfile}", "--workers=3")
        assert done.stdout == f"filestored has restarted, pid {process.pid}\n"
        until(lambda: len(daemon.workers() - old) == 3 and not daemon.workers() & old)
        assert daemon.ask() in daemon.workers()
        assert "--workers=3" in daemon.pidfile.with_name("pid.opts").read_text()
        refused = daemon.command("restart", "--port=1")
        assert (refused.returncode, refused.stderr) == (
            1, "filestored: it runs in the foreground: stop it there to change --port\n"
        )  # fmt: skip
        process.terminate()
        assert process.wait() == 0
