"""What a service manager is told, and what it may give."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.config import BadOption, inheritance
from httpd.config import read as read_settings
from httpd.process import proc
from httpd.process.listeners import LEAST_BACKLOG, lent_listeners, queue
from httpd.process.notify import Notifier
from tests.daemons import until
from tests.process.managers import Manager, stop
from tests.process.stubs import StubDaemon


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    path = tmp_path / "notify"
    manager = Manager(path if request.param == "path" else f"@{path}")
    yield manager
    manager.close()


def test_life_of_a_service(manager: Manager, daemon: StubDaemon) -> None:
    process = manager.run(daemon, "--workers=1")
    state = f"serving on http://127.0.0.1:{daemon.port} with 1 worker, store {daemon.store}"
    assert manager.told(READY="1")["STATUS"] == state
    assert daemon.command("reload").returncode == 0
    reloading = manager.told(RELOADING="1")
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= now
    assert manager.told(READY="1")["STATUS"] == state
    daemon.order("fail")
    assert daemon.command("reload").returncode == 1
    reason = "the last reload failed: RuntimeError: told to fail"
    assert manager.told(READY="1")["STATUS"] == f"{state}; {reason}"
    assert stop(process) == 0
    manager.told(STOPPING="1")


def test_a_start_that_takes_its_time(manager: Manager, daemon: StubDaemon) -> None:
    daemon.order("slow-sweep")
    process = manager.run(daemon, "--workers=1")
    told = manager.told(EXTEND_TIMEOUT_USEC="65000000")
    assert told["STATUS"] == "putting back what a crash has left in the journals"
    daemon.countermand("slow-sweep")
    manager.told(READY="1")
    assert stop(process) == 0


@pytest.mark.long
def test_nobody_is_told_where_the_start_fails(manager: Manager, daemon: StubDaemon) -> None:
    daemon.env["NOTIFY_SOCKET"] = manager.address
    daemon.order("fail")
    assert daemon.command("run").returncode == 1
    assert not any("READY" in message for message in manager.listen())


def test_daemon_in_the_background_tells_nobody(manager: Manager, daemon: StubDaemon) -> None:
    """The manager that its launcher belongs to waits for somebody else."""
    daemon.env["NOTIFY_SOCKET"] = manager.address
    daemon.start()
    assert daemon.command("reload").returncode == 0
    assert manager.listen() == []


@pytest.mark.long
def test_manager_that_is_gone_is_no_trouble(tmp_path: Path, daemon: StubDaemon) -> None:
    manager = Manager(tmp_path / "notify")
    manager.close()
    process = manager.run(daemon)
    assert daemon.ask()
    assert stop(process) == 0


def test_status_is_one_line(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    Notifier(manager.address).status("one\nWATCHDOG=trigger\r\nthree")
    assert manager.listen() == [{"STATUS": "one WATCHDOG=trigger three"}]
    manager.close()


# ---- the watchdog


def test_watchdog_is_fed(manager: Manager, daemon: StubDaemon) -> None:
    process = manager.run(daemon, watchdog=0.1)
    for _ in range(3):
        manager.told(WATCHDOG="1")
    assert daemon.command("reload").returncode == 0
    manager.listen().clear()
    manager.told(WATCHDOG="1")
    assert stop(process) == 0


@pytest.mark.long
def test_watchdog_is_not_fed_while_a_loop_stands_still(
    manager: Manager, daemon: StubDaemon
) -> None:
    process = manager.run(daemon, "--stall-timeout=0", watchdog=0.1)
    victim = min(daemon.workers())
    os.kill(victim, signal.SIGSTOP)
    until(lambda: quiet(manager), "it falls silent")
    os.kill(victim, signal.SIGCONT)
    manager.listen().clear()
    manager.told(WATCHDOG="1")
    assert stop(process) == 0


@pytest.mark.long
def test_watchdog_is_not_fed_while_nobody_serves(manager: Manager, daemon: StubDaemon) -> None:
    process = manager.run(daemon, watchdog=0.1)
    daemon.order("hang")
    for pid in daemon.workers():
        os.kill(pid, signal.SIGKILL)
    until(lambda: quiet(manager), "it falls silent")
    daemon.countermand("hang")
    manager.listen().clear()
    manager.told(WATCHDOG="1")
    assert stop(process) == 0


def quiet(manager: Manager) -> bool:
    """Tell whether nothing comes for several times as long as it should take."""
    manager.listen()
    time.sleep(0.4)
    return manager.silent()


def test_watchdog_of_another_process_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert inheritance().watchdog == 0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert inheritance().watchdog == 3
    monkeypatch.delenv("WATCHDOG_PID")
    assert inheritance().watchdog == 3
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert inheritance().watchdog == 0


# ---- sockets that are given


@pytest.fixture
def lent() -> Iterator[socket.socket]:
    """A listening socket of the service manager's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_socket_activation(tmp_path: Path, lent: socket.socket, daemon: StubDaemon) -> None:
    manager = Manager(tmp_path / "notify")
    port = lent.getsockname()[1]
    process = manager.run(daemon, "--port=1", sockets=[lent.fileno()])
    assert daemon.port == port
    assert f"http://127.0.0.1:{port}" in manager.told(READY="1")["STATUS"]
    assert daemon.ask() in daemon.workers()
    before = daemon.workers()
    assert daemon.command("reload").returncode == 0
    until(lambda: not daemon.workers() & before)
    assert daemon.ask() in daemon.workers()
    assert stop(process) == 0
    # What comes between two daemons waits for the next one.
    with daemon.connect() as early:
        early.sendall(b"hello")
        process = manager.run(daemon, sockets=[lent.fileno()])
        assert int(early.recv(64)) in daemon.workers()
    assert stop(process) == 0
    manager.close()


@pytest.mark.long
def test_unix_socket_that_is_lent_stays(tmp_path: Path, daemon: StubDaemon) -> None:
    manager = Manager(tmp_path / "notify")
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = manager.run(daemon, sockets=[listener.fileno()])
        assert f"unix:{path}" in manager.told(READY="1")["STATUS"]
        assert stop(process) == 0
        assert path.exists()
    manager.close()


@pytest.mark.long
def test_several_sockets(tmp_path: Path, lent: socket.socket, daemon: StubDaemon) -> None:
    manager = Manager(tmp_path / "notify")
    with socket.create_server(("127.0.0.1", 0)) as second:
        process = manager.run(daemon, sockets=[lent.fileno(), second.fileno()])
        for listener in (lent, second):
            daemon.port = listener.getsockname()[1]
            assert daemon.ask() in daemon.workers()
        assert stop(process) == 0
    manager.close()


def test_sockets_of_another_process_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    assert inheritance().sockets == []
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert inheritance().sockets == [3, 4]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_socket_that_does_not_listen(kind: socket.SocketKind, tmp_path: Path) -> None:
    _, settings = read_settings([], tmp_path, ())
    with socket.socket(socket.AF_INET, kind) as odd:
        odd.bind(("127.0.0.1", 0))
        with pytest.raises(BadOption, match="a socket that does not listen"):
            lent_listeners(settings, [os.dup(odd.fileno())])


def test_queue_of_a_listener_that_is_taken_over_becomes_as_long_as_any(tmp_path: Path) -> None:
    _, settings = read_settings([], tmp_path, ())
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        queue([listener], settings)
        waiting = [socket.create_connection(listener.getsockname(), timeout=20) for _ in range(20)]
        assert len(waiting) < LEAST_BACKLOG
        for each in waiting:
            each.close()


@pytest.mark.long
def test_worker_knows_nothing_of_the_manager(tmp_path: Path, daemon: StubDaemon) -> None:
    manager = Manager(tmp_path / "notify")
    process = manager.run(daemon)
    manager.told(READY="1")
    for pid in daemon.workers():
        assert proc.stat(pid)
        sockets = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        assert sum(target.startswith("socket:") for target in sockets) == 1  # the listener
    assert stop(process) == 0
    manager.close()
