"""Starting, seen by whoever starts it."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import until
from tests.process.stubs import StubDaemon

NOBODY = pwd.getpwnam("nobody")


def status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_start_returns_when_it_serves(daemon: StubDaemon) -> None:
    done = daemon.command("start")
    daemon.note(done.stdout)
    assert daemon.ask() in daemon.workers()
    assert done.stdout.splitlines() == [
        f"filestored 0.1.0 listening on http://127.0.0.1:{daemon.port}, pid {daemon.pid}",
        f"try: curl --data-binary @README.md http://127.0.0.1:{daemon.port}/",
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.pidfile.read_text() == f"{daemon.pid}\n"


def test_command_may_be_left_out(daemon: StubDaemon) -> None:
    line = daemon.line("start")
    line.remove("start")
    done = subprocess.run(line, env=daemon.env, text=True, capture_output=True, check=True)
    daemon.note(done.stdout)
    assert daemon.ask()


def test_daemon_is_cut_off_from_where_it_was_started(daemon: StubDaemon) -> None:
    daemon.start()
    for pid in (daemon.pid, *daemon.workers()):
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        assert status(pid)["Umask"] == "0027"
        assert os.getsid(pid) not in (os.getsid(0), pid)  # a leader could get a terminal again
    assert status(daemon.pid)["PPid"] != str(os.getpid())


@pytest.mark.long
def test_a_start_that_goes_on_is_waited_for(daemon: StubDaemon) -> None:
    """For longer than one that says nothing: 5 s here, for a sweep of 6 s."""
    daemon.shorten(daemon__ANSWER_SECONDS=5, daemon__GOES_ON_SECONDS=0)
    daemon.order("slow-sweep")
    daemon.start()
    assert daemon.ask() in daemon.workers()


def test_second_start_is_refused(daemon: StubDaemon) -> None:
    daemon.start()
    done = daemon.command("start", "--port=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"filestored: already running, pid {daemon.pid}\n"
    assert daemon.ask()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_port_that_is_taken(taken: int, daemon: StubDaemon) -> None:
    done = daemon.command("start", f"--port={taken}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"filestored: http://127.0.0.1:{taken}: Address already in use\n"


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--store={file}/store", "cannot use the store {file}/store: Not a directory"),
        ("--log-dir={file}/log", "cannot use the log folder {file}/log: Not a directory"),
        ("--log-dir={folder}/bad", "cannot use the log folder {folder}/bad: Is a directory"),
        ("--pidfile={file}/pid", "{file}/pid: Not a directory"),
        ("--pidfile={file}", "{file}: there is a file that is no pidfile"),
        ("--host=unix:{file}", "unix:{file}: there is a file that is no socket"),
    ],
)
def test_place_that_cannot_be_used(flag: str, reason: str, daemon: StubDaemon) -> None:
    file = daemon.folder / "file"
    file.write_text("precious" * 8)
    (daemon.folder / "bad" / "filestored.log").mkdir(parents=True)
    names = {"file": file, "folder": daemon.folder}
    done = daemon.command("start", flag.format(**names))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"filestored: {reason.format(**names)}\n"
    assert daemon.gone()
    assert file.read_text() == "precious" * 8


@pytest.mark.parametrize("flag", ["--port=9x", "--user=no-such-one", "--prot=1"])
def test_wrong_option(flag: str, daemon: StubDaemon) -> None:
    done = daemon.command("start", flag)
    assert (done.returncode, done.stdout) == (2, "")
    assert flag.split("=")[0] in done.stderr
    assert daemon.gone()


def test_stale_files_are_in_nobodys_way(daemon: StubDaemon) -> None:
    daemon.pidfile.write_text(f"{os.getpid()}\n")  # even with the number of a living process
    daemon.pidfile.with_name("pid.opts").write_text("[")
    daemon.start()
    assert daemon.ask()


def test_launcher_that_is_interrupted_leaves_the_daemon_alone(daemon: StubDaemon) -> None:
    daemon.order("hang")
    with subprocess.Popen(daemon.line("start"), env=daemon.env) as launcher:
        until(lambda: daemon.life_log().count("forked") == 2)
        launcher.send_signal(signal.SIGINT)
    assert launcher.returncode == 130
    daemon.countermand("hang")
    until(lambda: "2 workers serve" in daemon.life_log())
    assert daemon.command("get_pid").returncode == 0


def test_start_with_all_standard_streams_closed(daemon: StubDaemon) -> None:
    line = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *daemon.line("start")]
    assert subprocess.run(line, env=daemon.env, check=False).returncode == 0
    daemon.pid = int(daemon.pidfile.read_text())
    assert len(daemon.workers()) == 2


@pytest.mark.parametrize(
    ("host", "warned"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False)]
)
def test_warning_where_everybody_can_come_in(
    host: str, warned: bool, daemon: StubDaemon  # noqa: FBT001
) -> None:  # fmt: skip
    done = daemon.command("start", f"--host={host}")
    daemon.note(done.stdout)
    assert daemon.ask()
    assert ("warning: it listens on every address" in done.stderr) is warned
    assert ("it listens on every address" in daemon.life_log()) is warned


def test_unix_socket(daemon: StubDaemon) -> None:
    path = daemon.folder / "sock"
    done = daemon.command("start", f"--host=unix:{path}")
    daemon.note(done.stdout)
    assert f"try: curl --data-binary @README.md --unix-socket {path} http" in done.stdout
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"hello")
        assert int(client.recv(64)) in daemon.workers()
    daemon.stop()
    assert not path.exists()


def test_unix_socket_of_a_daemon_that_was_killed(daemon: StubDaemon) -> None:
    flag = f"--host=unix:{daemon.folder}/sock"
    daemon.start(flag)
    daemon.signal(signal.SIGKILL)
    daemon.start(flag)
    assert len(daemon.workers()) == 2


# ---- the foreground


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_stays_in_the_foreground(number: signal.Signals, daemon: StubDaemon) -> None:
    with daemon.run() as process:
        assert process.pid == daemon.pid
        assert daemon.ask() in daemon.workers()
        process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == 0
    assert "2 workers serve" in told
    assert "filestored has stopped" in told
    assert not daemon.logs.exists()


def test_run_tells_why_it_cannot(daemon: StubDaemon) -> None:
    daemon.order("fail")
    done = daemon.command("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("filestored: RuntimeError: told to fail\n")


def test_run_and_start_exclude_each_other(daemon: StubDaemon) -> None:
    with daemon.run() as process:
        assert f"already running, pid {process.pid}" in daemon.command("start").stderr
        process.terminate()


# ---- another user


@pytest.mark.root
def test_daemon_runs_as_the_user_and_group_it_is_told(public_folder: Path) -> None:
    daemon = StubDaemon(public_folder)
    daemon.store.rmdir()
    sock = public_folder / "sock"
    try:
        daemon.start("--user=nobody", "--group=daemon", f"--host=unix:{sock}")
        group = 1  # of the name "daemon" on every system that follows the LSB
        for pid in (daemon.pid, *daemon.workers()):
            found = status(pid)
            assert found["Uid"].split() == [str(NOBODY.pw_uid)] * 4
            assert found["Gid"].split() == [str(group)] * 4
            assert "0" not in found["Groups"].split()
        made = [daemon.store, daemon.logs, daemon.logs / "filestored.log", sock]
        made += [daemon.pidfile, daemon.pidfile.with_name("pid.opts")]
        assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {
            (NOBODY.pw_uid, group)
        }
        daemon.start(command="restart")
        assert status(daemon.pid)["Uid"].split()[0] == str(NOBODY.pw_uid)
    finally:
        daemon.end()


@pytest.mark.root
def test_store_that_is_not_the_users(public_folder: Path) -> None:
    daemon = StubDaemon(public_folder)
    daemon.store.chmod(0o700)
    done = daemon.command("start", "--user=nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"filestored: cannot use the store {daemon.store}: Permission denied\n"
    assert daemon.gone()


@pytest.mark.root
def test_logs_that_are_not_the_users(public_folder: Path) -> None:
    daemon = StubDaemon(public_folder)
    daemon.logs.mkdir(0o755)
    done = daemon.command("start", "--user=nobody")
    assert done.returncode == 1
    assert f"cannot use the log folder {daemon.logs}: Permission denied" in done.stderr
    assert daemon.gone()
