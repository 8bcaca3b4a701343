"""The whole daemon as its users meet it: real processes, real signals, curl."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Barrier, Event

import pytest

from httpd.process import proc
from tests import raw
from tests.daemons import PATIENCE, Daemon, until
from tests.service import Service, blobs_in, path_in, service_as_nobody

MIB = 1 << 20
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    """Requests to the test's daemon, which is not started yet."""
    with Service(daemon) as service:
        yield service
    until(lambda: not daemon.staged(), "something stays staged")


# ---- curl


@pytest.fixture
def curl(service: Service, tmp_path: Path) -> Callable[..., str]:
    """Run curl in the test's folder; an argument that begins with a slash is a URL's end."""

    def run(*arguments: str, stdin: bytes = b"") -> str:
        url = service.daemon.url
        line = [f"{url}{each}" if each.startswith("/") else each for each in arguments]
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *line]
        done = subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    return run


def status_of(curl: Callable[..., str], *arguments: str) -> str:
    return curl("-o", "scrap", "-w", "%{http_code}", *arguments)


UPLOADS = {
    "data": ["--data-binary", "@photo.jpg", "/"],
    "upload": ["-X", "POST", "-T", "photo.jpg", "/"],  # curl adds the name to the path
    "upload with a name": ["-X", "POST", "-T", "photo.jpg", "/other.jpg"],
    "upload of a pipe": ["-X", "POST", "-T", "-", "/"],
    "form": ["-F", "file=@photo.jpg", "/"],
    "HTTP/1.0": ["-0", "--data-binary", "@photo.jpg", "/"],
}


@needs_curl
@pytest.mark.parametrize("arguments", UPLOADS.values(), ids=UPLOADS)
def test_round_with_curl(
    arguments: list[str], daemon: Daemon, curl: Callable[..., str], tmp_path: Path
) -> None:
    daemon.start()
    for size in (0, 1000, 3 * MIB):  # from a MiB on it waits to be asked for the content
        content = os.urandom(size)
        (tmp_path / "photo.jpg").write_bytes(content)
        digest = curl(*arguments, stdin=content)
        assert digest == md5(content)
        assert path_in(daemon.store, digest).read_bytes() == content
        curl("-f", "-o", "copy", f"/?file_hash={digest}")
        assert (tmp_path / "copy").read_bytes() == content
        curl("-f", "-O", "-J", f"/?file_hash={digest}&name=my%20{size}.jpg")
        assert (tmp_path / f"my {size}.jpg").read_bytes() == content
        assert status_of(curl, "-X", "DELETE", f"/?file_hash={digest}") == "200"
        assert status_of(curl, f"/?file_hash={digest}") == "404"
        assert blobs_in(daemon.store) == set()


@needs_curl
def test_curl_resumes_a_download(daemon: Daemon, curl: Callable[..., str], tmp_path: Path) -> None:
    content = os.urandom(MIB)
    (tmp_path / "part").write_bytes(content[:1000])
    (tmp_path / "whole").write_bytes(content)
    daemon.start()
    digest = curl("--data-binary", "@whole", "/")
    curl("-f", "-C", "-", "-o", "part", f"/?file_hash={digest}")
    assert (tmp_path / "part").read_bytes() == content


@needs_curl
def test_other_methods_with_curl(daemon: Daemon, curl: Callable[..., str]) -> None:
    daemon.start()
    for flags in (["-X", "PUT"], ["-I"], ["-X", "OPTIONS"], ["-X", "PATCH"], ["-X", "FOO"]):
        answer = curl("-i", *flags, "/")
        assert answer.startswith("HTTP/1.1 405 ")
        assert "Allow: GET, POST, DELETE\r\n" in answer


@needs_curl
def test_unix_socket(daemon: Daemon, curl: Callable[..., str], tmp_path: Path) -> None:
    daemon.start(f"--host=unix:{tmp_path}/socket")
    through = ["--unix-socket", "socket"]
    digest = curl(*through, "-d", "hello", "http://localhost/")
    assert curl(*through, f"http://localhost/?file_hash={digest}") == "hello"


def test_ipv6(daemon: Daemon, service: Service) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    daemon.host = "::1"
    daemon.start()
    digest = service.post("/", data=b"hello").text
    assert service.get_file(digest).content == b"hello"


# ---- two workers


@contextmanager
def suspended(pids: set[int]) -> Iterator[None]:
    """Keep processes from doing anything for a while."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        # Until it stands still, it may be the one that the kernel wakes for a connection.
        until(lambda: all(stat and stat.state == "T" for stat in map(proc.stat, pids)))
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def at_each(daemon: Daemon) -> Iterator[list[Service]]:
    """For each worker a service with a connection to it and to no other."""
    daemon.start()
    workers = daemon.workers()
    with ExitStack() as opened:
        services = [opened.enter_context(Service(daemon)) for _ in workers]
        for service, worker in zip(services, workers, strict=True):
            with suspended(workers - {worker}):
                assert service.get("/healthz").text == "ok\n"
        yield services


def test_workers_agree(at_each: list[Service]) -> None:
    for number in range(40):
        content = str(number).encode()
        here, there = at_each[number % 2], at_each[1 - number % 2]
        digest = here.post("/", data=content).text
        assert [each.get_file(digest).content for each in (there, here)] == [content] * 2
        assert there.delete(f"/?file_hash={digest}").status_code == 200
        assert [each.get_file(digest).status_code for each in (here, there)] == [404] * 2


# ---- memory


NOISE = hashlib.shake_128(b"noise").digest(MIB - 8)


def block(number: int) -> bytes:
    """Return a MiB that is unlike any other block."""
    return number.to_bytes(8) + NOISE


@pytest.mark.big
def test_5_gib_go_up_and_down_in_16_mib(daemon: Daemon, service: Service) -> None:
    daemon.start()
    count, running = 5 * 1024, hashlib.md5()
    until(daemon.loaded)
    idle = daemon.memory(anew=True)
    with daemon.connect() as client:
        client.sendall(raw.head("POST /", f"Content-Length: {count * MIB}", "Connection: close"))
        for number in range(count):
            running.update(block(number))
            client.sendall(block(number))
        digest = raw.answer_in(raw.receive_all(client)).content.decode()
    assert digest == running.hexdigest()
    with daemon.connect() as client, client.makefile("rb") as reader:
        client.sendall(raw.head(f"GET /?file_hash={digest}", "Connection: close"))
        assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
        while reader.readline() != b"\r\n":
            pass
        assert all(reader.read(MIB) == block(number) for number in range(count))
        assert reader.read() == b""
    assert daemon.memory() - idle < 16 * MIB
    assert service.delete(f"/?file_hash={digest}").status_code == 200


def test_16_big_uploads_at_once_take_no_more_than_16_mib(daemon: Daemon) -> None:
    daemon.start("--workers=2")
    until(daemon.loaded)
    count, all_begun = 24, Barrier(16)
    idle = daemon.memory(anew=True)

    def upload(number: int) -> bool:
        numbers = range(number * count, (number + 1) * count)
        with daemon.connect() as client:
            client.sendall(
                raw.head("POST /", f"Content-Length: {count * MIB}", "Connection: close")
            )
            for each in numbers:
                client.sendall(block(each))
                if each == numbers[count // 2]:
                    all_begun.wait(PATIENCE)
            digest = raw.answer_in(raw.receive_all(client)).content.decode()
        running = hashlib.md5()
        for each in numbers:
            running.update(block(each))
        return digest == running.hexdigest()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(upload, range(16)))
    assert daemon.memory() - idle < 16 * MIB


# ---- the life of the daemon


def begin_upload(daemon: Daemon, content: bytes, sent: int) -> socket.socket:
    """Send the first bytes of an upload, enough to be staged, and return the connection."""
    client = daemon.connect()
    client.sendall(raw.head("POST /", f"Content-Length: {len(content)}") + content[:sent])
    until(daemon.staged, "nothing is staged")
    return client


def uploading(daemon: Daemon) -> int:
    """Return the worker that has a staged file open."""
    for pid in daemon.workers():
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                if "/.tmp/" in os.readlink(f"/proc/{pid}/fd/{number}"):
                    return pid
    raise AssertionError("no worker has a staged file open")


def test_second_start_is_refused(daemon: Daemon, service: Service) -> None:
    daemon.start()
    done = daemon.command("start", f"--port={daemon.port}")
    assert done.returncode == 1
    assert done.stderr == f"filestored: already running, pid {daemon.pid}\n"
    assert service.get("/readyz").status_code == 200


def test_restart_keeps_what_it_runs_with(daemon: Daemon, service: Service) -> None:
    daemon.start("--hash=sha1")
    digest = service.post("/", data=b"hello").text
    port, pid = daemon.port, daemon.pid
    daemon.start(command="restart")
    assert daemon.port == port
    assert daemon.pid != pid
    assert daemon.command("get_pid").stdout == f"{daemon.pid}\n"
    assert service.get_file(digest).content == b"hello"
    assert service.post("/", data=b"hello").text == digest


def test_worker_killed_in_mid_upload(daemon: Daemon, service: Service) -> None:
    daemon.start()
    with begin_upload(daemon, bytes(4 * MIB), MIB):
        victim = uploading(daemon)
        os.kill(victim, signal.SIGKILL)
        assert service.get("/healthz").status_code == 200
        until(lambda: not daemon.staged(), "the dead worker's upload stays staged")
    until(lambda: len(daemon.workers() - {victim}) == 2, "the worker is not replaced")
    assert daemon.command("get_pid").stdout == f"{daemon.pid}\n"
    assert blobs_in(daemon.store) == set()


def test_master_killed(daemon: Daemon, service: Service) -> None:
    daemon.start()
    digest = service.post("/", data=b"hello").text
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.start(f"--port={daemon.port}")
    assert service.get_file(digest).content == b"hello"
    assert daemon.command("get_pid").stdout == f"{daemon.pid}\n"


def test_all_killed_in_mid_upload(daemon: Daemon, service: Service) -> None:
    daemon.start()
    with begin_upload(daemon, bytes(4 * MIB), MIB):
        for pid in (daemon.pid, *daemon.workers()):  # the master first, so that it does not sweep
            os.kill(pid, signal.SIGKILL)
        until(daemon.gone)
        assert daemon.staged()
    daemon.start()
    assert daemon.staged() == []
    assert service.post("/", data=b"hello").status_code == 200


def test_stop_returns_when_the_last_process_is_gone(daemon: Daemon, service: Service) -> None:
    daemon.start("--workers=4")
    service.get("/healthz")  # a connection that is kept and idle
    daemon.stop()
    assert daemon.processes() == set()
    assert not daemon.pidfile.exists()


@pytest.mark.parametrize("beginning", [0, 3 * MIB], ids=["no content yet", "half of the content"])
def test_drain_lets_an_upload_finish(beginning: int, daemon: Daemon) -> None:
    content = os.urandom(6 * MIB)
    daemon.start()
    with daemon.connect() as client:
        client.sendall(raw.head("POST /", f"Content-Length: {len(content)}"))
        client.sendall(content[:beginning])
        until(lambda: daemon.staged() or not beginning)
        daemon.signal(signal.SIGTERM)
        until(lambda: refuses(daemon), "it still takes connections")
        client.sendall(content[beginning:])
        answer = raw.answer_in(raw.receive_all(client))
    assert (answer.status, answer.content.decode()) == (200, md5(content))
    assert answer.fields["connection"] == "close"
    until(daemon.gone)
    assert blobs_in(daemon.store) == {md5(content)}


def refuses(daemon: Daemon) -> bool:
    try:
        daemon.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("number", "flags"),
    [(signal.SIGINT, []), (signal.SIGQUIT, []), (signal.SIGTERM, ["--drain-timeout=0.2"])],
)
def test_upload_that_a_stop_cuts_off(
    number: signal.Signals, flags: list[str], daemon: Daemon
) -> None:
    daemon.start(*flags)
    with begin_upload(daemon, bytes(4 * MIB), MIB):
        daemon.signal(number)
        until(daemon.gone)
    assert blobs_in(daemon.store) == set()
    assert daemon.staged() == []


# ---- reload


def use(daemon: Daemon, name: str, over: Event, *, keep: bool) -> int:
    """Be a client until it is over: store, fetch and delete; return how often."""
    with Service(daemon) as service:
        for turn in range(5000):
            if over.is_set():
                return turn
            content = f"{name} {turn}".encode() * (1 + turn % 7 * 3000)
            digest = service.post("/", data=content).text
            assert service.get_file(digest).content == content
            assert service.delete(f"/?file_hash={digest}").status_code == 200
            if not keep:
                service.close()  # the next request is on a new connection
    return 5000


def test_reload_under_load(daemon: Daemon) -> None:
    daemon.start("--idle-timeout=5")
    over = Event()
    with ThreadPoolExecutor() as pool:
        clients = [
            pool.submit(use, daemon, f"client {number}", over, keep=number < 2)
            for number in range(4)
        ]
        try:
            for generation in range(2, 6):
                reload(daemon, generation)
        finally:
            over.set()
        assert all(client.result() for client in clients)
    assert blobs_in(daemon.store) == set()


def reload(daemon: Daemon, generation: int) -> None:
    """Replace the workers by those of that generation, and see the old ones leave."""
    old = daemon.workers()
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.life_log().count("2 workers serve") == generation, "no fresh workers")
    until(lambda: not old & daemon.workers(), "old workers stay")


def test_daemon_stays_ready_while_it_reloads(daemon: Daemon, service: Service) -> None:
    daemon.start()
    assert service.get("/readyz").status_code == 200
    daemon.signal(signal.SIGHUP)
    until(lambda: daemon.life_log().count("2 workers serve") == 2)
    # On the kept connection, thus by an old worker: new connections are taken by the new ones.
    assert service.get("/readyz").status_code == 200


# ---- another user


@pytest.mark.root
def test_daemon_of_another_user() -> None:
    with service_as_nobody() as service:
        daemon = service.daemon
        owners = {os.stat(f"/proc/{pid}").st_uid for pid in daemon.processes()}
        digest = service.post("/", data=b"hello").text
        path = path_in(daemon.store, digest)
        assert service.get_file(digest).content == b"hello"
        assert owners == {path.stat().st_uid} != {0}
        assert service.delete(f"/?file_hash={digest}").status_code == 200
