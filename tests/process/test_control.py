"""The commands that act on a daemon that runs, or does not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from httpd import config
from httpd.process import control, status
from tests.daemons import until
from tests.process.stubs import StubDaemon


def test_every_command_has_its_function() -> None:
    assert config.COMMANDS.keys() == control.COMMANDS.keys()


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("stop", 0, "nothing runs\n", ""),
        ("get_pid", 1, "", "filestored: nothing runs\n"),
        ("status", 3, "nothing runs\n", ""),
        ("reload", 1, "", "filestored: nothing runs\n"),
    ],
)
@pytest.mark.parametrize("left", [False, True], ids=["no pidfile", "stale pidfile"])
def test_nothing_runs(
    command: str, code: int, out: str, err: str, left: bool, daemon: StubDaemon  # noqa: FBT001
) -> None:  # fmt: skip
    if left:
        daemon.pidfile.write_text(f"{os.getpid()}\n")
    done = daemon.command(command)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)
    daemon.pidfile.unlink(missing_ok=True)


def test_get_pid(daemon: StubDaemon) -> None:
    daemon.start()
    done = daemon.command("get_pid")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{daemon.pid}\n", "")


def test_status_of_a_daemon_that_does_not_answer_as_it_should(daemon: StubDaemon) -> None:
    daemon.start()
    done = daemon.command("status")
    workers = " ".join(map(str, sorted(daemon.workers())))
    first, address, found, uptime, store, answers = done.stdout.splitlines()
    assert done.returncode == 4
    assert first == f"filestored 0.1.0 runs, pid {daemon.pid}"
    assert address == f"  address     http://127.0.0.1:{daemon.port}"
    assert found == f"  workers     2 ({workers})"
    assert uptime.startswith("  uptime      ")
    assert store == f"  store       {daemon.store}"
    assert answers.startswith("  answers     no: ")
    told = json.loads(daemon.command("status", "--json").stdout)
    assert (told["running"], told["answers"], told["pid"]) == (True, False, daemon.pid)
    assert (told["requests"], told["connections"], told["files"]) == (None, None, None)


def test_status_of_nothing_as_json(daemon: StubDaemon) -> None:
    done = daemon.command("status", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (3, {"running": False})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90061, "1 d 1 h"), (59, "59 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text


# ---- stop


def test_stop_returns_when_the_last_process_is_gone(daemon: StubDaemon) -> None:
    daemon.start()
    done = daemon.command("stop")
    assert daemon.gone()
    assert (done.returncode, done.stdout) == (0, f"filestored stopped, pid {daemon.pid}\n")
    assert not daemon.pidfile.exists()


def test_stop_waits_for_the_request_under_way(daemon: StubDaemon) -> None:
    daemon.start()
    slow = daemon.ask_slowly()
    pid = os.fork()
    if pid == 0:
        os._exit(daemon.command("stop").returncode)
    until(lambda: "stopping when the requests under way" in daemon.life_log())
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert int(slow.answer()) > 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert daemon.gone()


def test_stop_kills_what_does_not_listen(daemon: StubDaemon) -> None:
    daemon.shorten(control__PATIENCE_SECONDS=0.1)
    daemon.start("--drain-timeout=0")
    daemon.signal(signal.SIGSTOP)  # the master itself hears nothing any more
    done = daemon.command("stop")
    assert (done.returncode, done.stdout) == (
        0,
        f"filestored was killed after 0 s, pid {daemon.pid}\n",
    )
    assert daemon.gone()
    daemon.start()  # what it has left behind is in nobody's way


def test_zombie_counts_as_gone(daemon: StubDaemon) -> None:
    with daemon.run() as process:  # our child, and we do not look after it
        done = daemon.command("stop")
        assert (done.returncode, done.stdout) == (0, f"filestored stopped, pid {process.pid}\n")
        assert Path(f"/proc/{process.pid}").exists()
        assert daemon.command("status").returncode == 3


# ---- restart and reload


def test_restart_keeps_the_options(daemon: StubDaemon) -> None:
    daemon.env["FILE_SERVICE_CHUNK"] = "8192"
    daemon.start("--listen=7", "--max-body=1M", "--drain-timeout=2.5", "--workers=3")
    options = daemon.pidfile.with_name("pid.opts")
    before, pid, port = options.read_text(), daemon.pid, daemon.port
    assert f"--port={port}" in before
    assert "--buffer=8192" in before
    daemon.env["FILE_SERVICE_CHUNK"] = "1"  # of the shell that restarts it
    daemon.start(command="restart")
    assert (daemon.pid != pid, daemon.port, options.read_text()) == (True, port, before)
    assert len(daemon.workers()) == 3
    assert daemon.ask()


def test_restart_with_another_option(daemon: StubDaemon) -> None:
    daemon.start()
    port = daemon.port
    daemon.start("--workers=1", command="restart")
    assert (len(daemon.workers()), daemon.port) == (1, port)


@pytest.mark.parametrize("flag", ["--port=9x", "--workers=0", "--nonsense=1"])
def test_restart_with_a_wrong_option_stops_nothing(flag: str, daemon: StubDaemon) -> None:
    daemon.start()
    workers = daemon.workers()
    assert daemon.command("restart", flag).returncode == 2
    assert daemon.workers() == workers


def test_restart_of_nothing_is_a_start(daemon: StubDaemon) -> None:
    daemon.start(
        "--host=127.0.0.1", "--port=0", f"--store={daemon.store}", f"--log-dir={daemon.logs}",
        command="restart",
    )  # fmt: skip
    assert daemon.ask()


@pytest.mark.parametrize("options", [None, "[", '["--from-another-version=1"]', '["--port=9x"]'])
def test_unreadable_options_of_the_running_daemon(options: str | None, daemon: StubDaemon) -> None:
    daemon.start()
    file = daemon.pidfile.with_name("pid.opts")
    file.unlink() if options is None else file.write_text(options)
    assert f"pid {daemon.pid}" in daemon.command("status").stdout
    daemon.stop()
    assert daemon.gone()


def test_reload(daemon: StubDaemon) -> None:
    daemon.start()
    old = daemon.workers()
    done = daemon.command("reload")
    assert (done.returncode, done.stdout) == (0, f"filestored has reloaded, pid {daemon.pid}\n")
    until(lambda: len(daemon.workers()) == 2 and not daemon.workers() & old)
    assert daemon.ask() not in old
