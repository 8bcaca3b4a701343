"""`restart`: another daemon takes over from the one that runs, and no client notices."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from httpd.process import proc
from httpd.process.orders import converse, orders_path
from tests.daemons import until
from tests.process.stubs import StubDaemon


def restart(daemon: StubDaemon, *flags: str) -> int:
    """Restart it; return the pid that it had."""
    before = daemon.pid
    daemon.start(*flags, command="restart")
    assert daemon.pid != before
    assert daemon.pidfile.read_text() == f"{daemon.pid}\n"
    return before


def gone(pid: int) -> bool:
    return proc.stat(pid) is None


def test_restart_lets_nobody_wait_or_fail(daemon: StubDaemon) -> None:
    daemon.start()
    with daemon.asked_all_the_time() as answers:
        old = daemon.workers()
        before = restart(daemon)
        until(lambda: gone(before), "the old master leaves")
        until(lambda: answers and answers[-1] not in old)
    assert answers[-1] in daemon.workers()


def test_request_under_way_is_finished_by_the_old_daemon(daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=0")
    old = daemon.workers()
    slow = daemon.ask_slowly()
    before = restart(daemon)
    assert daemon.ask() not in old
    assert f"pid {daemon.pid} has taken over: leaving" in daemon.life_log()
    assert not gone(before)
    assert int(slow.answer()) in old
    until(lambda: gone(before))
    assert daemon.command("get_pid").returncode == 0
    assert "the predecessor has left" in daemon.life_log()


@pytest.mark.long
def test_restart_after_restart(daemon: StubDaemon) -> None:
    daemon.start()
    slow = daemon.ask_slowly()
    masters = [restart(daemon) for _ in range(3)]
    until(lambda: gone(masters[1]) and gone(masters[2]))
    assert not gone(masters[0])
    assert daemon.command("reload").returncode == 0  # a next self waits for it as well
    assert int(slow.answer()) > 0
    until(lambda: gone(masters[0]))


@pytest.mark.long
@pytest.mark.parametrize("reloaded", [False, True])
def test_stop_means_the_old_daemon_too(reloaded: bool, daemon: StubDaemon) -> None:  # noqa: FBT001
    daemon.start()
    slow = daemon.ask_slowly()
    before = restart(daemon, "--drain-timeout=0")
    if reloaded:
        assert daemon.command("reload").returncode == 0
    assert not gone(before)
    stopping = threading.Thread(target=daemon.stop)
    stopping.start()
    until(lambda: daemon.life_log().count("worker") and "stopping when" in daemon.life_log())
    assert int(slow.answer()) > 0  # the old one has the drain timeout that it was started with
    stopping.join()
    assert daemon.gone()


@pytest.mark.long
def test_int_means_the_old_daemon_too(daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=86400")
    slow = daemon.ask_slowly()
    restart(daemon)
    daemon.signal(signal.SIGINT)
    until(daemon.gone)
    assert slow.rest() == b""


@pytest.mark.long
def test_old_daemon_leaves_when_the_new_one_is_killed(daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=0.1")
    slow = daemon.ask_slowly()
    before = restart(daemon)
    daemon.signal(signal.SIGKILL)
    until(lambda: gone(before))
    assert slow.rest() == b""
    daemon.start()


@pytest.mark.long
def test_old_daemon_may_be_stopped_alone(daemon: StubDaemon) -> None:
    daemon.start("--drain-timeout=0")
    slow = daemon.ask_slowly()
    before = restart(daemon)
    os.kill(before, signal.SIGTERM)
    until(lambda: gone(before))
    assert slow.rest() == b""
    assert daemon.ask() in daemon.workers()


# ---- what does not work costs nothing


@pytest.mark.parametrize(
    ("order", "flags", "reason"),
    [
        ("fail", [], "RuntimeError: told to fail"),
        pytest.param("die", [], "exited with status 7 before it was ready", marks=pytest.mark.long),
        pytest.param(
            "",
            ["--store={file}/store"],
            "cannot use the store {file}/store: Not a directory",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "", ["--user=no-such-one"], "--user: there is no 'no-such-one'", marks=pytest.mark.long
        ),
        pytest.param(
            "", ["--host=192.0.2.1"], "Cannot assign requested address", marks=pytest.mark.long
        ),
    ],
)
def test_restart_that_fails(order: str, flags: list[str], reason: str, daemon: StubDaemon) -> None:
    file = daemon.folder / "file"
    file.touch()
    daemon.start()
    options = daemon.pidfile.with_name("pid.opts").read_text()
    old = daemon.workers()
    if order:
        daemon.order(order)
    done = daemon.command("restart", *(flag.format(file=file) for flag in flags))
    assert done.returncode in (1, 2)
    assert reason.format(file=file) in done.stderr
    assert daemon.command("get_pid").stdout == f"{daemon.pid}\n"
    assert daemon.ask() in old == daemon.workers()
    assert daemon.pidfile.with_name("pid.opts").read_text() == options
    until(lambda: "the restart failed, this daemon goes on" in daemon.life_log())
    if order:
        daemon.countermand(order)
    restart(daemon)  # and it takes orders as before


@pytest.mark.long
def test_restart_during_a_reload_is_refused(daemon: StubDaemon) -> None:
    daemon.start()
    daemon.order("hang")
    daemon.signal(signal.SIGHUP)
    until(lambda: len(daemon.workers()) == 3)
    done = daemon.command("restart")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "filestored: another start, reload or stop is under way\n"
    daemon.countermand("hang")
    until(lambda: daemon.life_log().count("2 workers serve") == 2)


@pytest.mark.long
def test_stop_ends_a_restart_that_is_under_way(daemon: StubDaemon) -> None:
    daemon.start()
    daemon.order("hang")
    results = []
    restarting = threading.Thread(target=lambda: results.append(daemon.command("restart")))
    restarting.start()
    until(lambda: daemon.life_log().count("forked") == 4)
    daemon.signal(signal.SIGTERM)
    restarting.join()
    assert (results[0].returncode, results[0].stderr) == (
        1, "filestored: stopped before it was ready\n"
    )  # fmt: skip
    until(daemon.gone)


# ---- other listeners


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_restart_on_another_port(daemon: StubDaemon) -> None:
    daemon.start()
    old, port = daemon.port, free_port()
    restart(daemon, f"--port={port}")
    assert daemon.port == port
    assert daemon.ask() in daemon.workers()
    until(lambda: refused(old), "the old port is closed")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.long
def test_restart_on_a_port_that_is_taken(daemon: StubDaemon) -> None:
    daemon.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = daemon.command("restart", f"--port={other.getsockname()[1]}")
    assert "Address already in use" in done.stderr
    assert daemon.ask() in daemon.workers()


@pytest.mark.long
def test_restart_on_another_address_and_the_same_port(daemon: StubDaemon) -> None:
    """Both cannot be listened on at the same time, so there the old one has to stop first."""
    daemon.start("--host=0.0.0.0")
    done = daemon.command("restart", "--host=127.0.0.1")
    assert done.stdout.startswith(f"filestored stopped, pid {daemon.pid}\n")
    daemon.note(done.stdout)
    assert daemon.ask() in daemon.workers()


@pytest.mark.long
def test_restart_from_a_unix_socket_and_back(daemon: StubDaemon) -> None:
    path = daemon.folder / "sock"
    daemon.start(f"--host=unix:{path}")
    inode = path.stat().st_ino
    restart(daemon)
    assert path.stat().st_ino == inode
    restart(daemon, "--host=127.0.0.1", f"--port={free_port()}")
    until(lambda: not path.exists())
    assert daemon.ask()


# ---- a daemon that does not answer


@pytest.mark.long
def test_daemon_without_a_socket_for_orders_is_stopped_first(daemon: StubDaemon) -> None:
    daemon.start()
    daemon.pidfile.with_name("pid.sock").unlink()
    refused = daemon.command("reload")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"filestored: it does not answer, pid {daemon.pid}\n"
    done = daemon.command("restart")
    assert done.stdout.startswith(f"filestored stopped, pid {daemon.pid}\n")
    daemon.note(done.stdout)
    assert daemon.ask()


@pytest.mark.long
def test_daemon_that_hears_nothing_is_killed_first(daemon: StubDaemon) -> None:
    daemon.shorten(control__PATIENCE_SECONDS=0.1, takeover__ANSWER_SECONDS=0.2)
    daemon.start("--drain-timeout=0")
    daemon.signal(signal.SIGSTOP)
    before = daemon.pid
    daemon.start(command="restart")
    assert gone(before)
    assert daemon.ask() in daemon.workers()


@pytest.mark.long
def test_orders_that_make_no_sense(daemon: StubDaemon) -> None:
    daemon.start()
    path = orders_path(daemon.pidfile)
    for order in ({"order": "dance"}, {}, {"stop": 2}, {"serves": 1}):
        peer = converse(path, order)
        said, held = peer.wait(20)
        assert ("failed" in said, held) == (True, [])
        peer.close()
    peer = converse(path, {"order": "hand over"})
    _, held = peer.wait(20)
    for descriptor in held:
        os.close(descriptor)
    peer.close()  # without a word, as a launcher that is killed
    until(lambda: "the restart failed, this daemon goes on" in daemon.life_log())
    assert daemon.ask() in daemon.workers()
    assert daemon.command("reload").returncode == 0


def test_orders_are_the_owners(daemon: StubDaemon) -> None:
    daemon.start()
    assert daemon.pidfile.with_name("pid.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.long
def test_folder_with_a_long_name(tmp_path: Path) -> None:
    """An address has room for 108 bytes (unix(7))."""
    folder = tmp_path / ("long name " * 12)
    folder.mkdir()
    daemon = StubDaemon(folder)
    try:
        daemon.start()
        restart(daemon)
        assert daemon.command("reload").returncode == 0
    finally:
        daemon.end()


@pytest.mark.long
@pytest.mark.root
def test_root_restarts_it_as_another_user(public_folder: Path) -> None:
    daemon = StubDaemon(public_folder)
    try:
        daemon.store.chmod(0o777)
        daemon.logs.mkdir()
        daemon.logs.chmod(0o777)
        daemon.start("--user=nobody")
        assert owner(daemon.pid) == 65534
        for file in (*daemon.logs.iterdir(), *daemon.store.iterdir()):
            file.chmod(0o666)
        restart(daemon, "--user=1")
        assert owner(daemon.pid) == 1
        assert {file.stat().st_uid for file in public_folder.glob("pid*")} == {1}
        restart(daemon)
    finally:
        daemon.end()


def owner(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid
