"""Clients that vanish or dawdle, and a file system that is full or cannot be written to."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import raw
from tests.daemons import Daemon, until
from tests.raw import FILE, form, part
from tests.service import Service, blobs_in, service_as_nobody

MIB = 1 << 20


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    """Requests to the test's daemon, which is not started yet."""
    with Service(daemon) as service:
        yield service
    until(lambda: not daemon.staged(), "something stays staged")


# ---- uploads that are cut off


def half_close(client: socket.socket) -> None:
    """Say that nothing more comes, and wait for the answer, which is no success."""
    client.shutdown(socket.SHUT_WR)
    received = raw.receive_all(client)
    assert not received or raw.answer_in(received).status == 400


def reset(client: socket.socket) -> None:
    """Vanish: closing sends a reset (SO_LINGER, socket(7))."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


ENDINGS: dict[str, Callable[[socket.socket], None]] = {"half-closed": half_close, "reset": reset}
FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "length": raw.post,
    "chunks": lambda content: raw.chunked(content, size=max(4, len(content) // 8)),
    "form": lambda content: form(part(FILE, content)),
    "form of two": lambda content: form(part(FILE, content), part(FILE, b"two")),
}


def connections(daemon: Daemon) -> int:
    """Count the sockets that the workers have open."""
    count = 0
    for pid in daemon.workers():
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                count += os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    return count


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_small_upload_cut_off_at_every_byte(
    framing: Callable[[bytes], bytes], end: Callable[[socket.socket], None], daemon: Daemon
) -> None:
    daemon.start()
    idle = connections(daemon)
    request = framing(b"hello world")
    for cut in range(len(request)):
        with daemon.connect() as client:
            client.sendall(request[:cut])
            end(client)
    until(lambda: connections(daemon) == idle, "a connection is kept")
    assert (blobs_in(daemon.store), daemon.staged()) == (set(), [])
    assert raw.ask(daemon.connect(), request).status == 200


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_large_upload_cut_off(
    framing: Callable[[bytes], bytes], end: Callable[[socket.socket], None], daemon: Daemon
) -> None:
    daemon.start()
    idle = connections(daemon)
    request = framing(bytes(2 * MIB))
    for cut in (MIB, 2 * MIB, len(request) - 1):
        with daemon.connect() as client:
            client.sendall(request[:cut])
            until(daemon.staged, "nothing is staged")
            end(client)
        until(lambda: not daemon.staged(), "what was cut off stays staged")
    until(lambda: connections(daemon) == idle, "a connection is kept")
    assert blobs_in(daemon.store) == set()


# ---- slow clients


DAWDLERS = {  # what each sends at once, and then bit by bit for as long as it may
    "nothing": (b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\nHo", b""),
    "a head in drops": (b"GET / HTTP/1.1\r\nA: ", b"x"),
    "no content": (raw.head("POST /", f"Content-Length: {MIB}"), b""),
    "half a content": (raw.post(bytes(MIB))[: MIB // 2], b""),
    "content in drops": (raw.head("POST /", f"Content-Length: {MIB}"), b"x"),
    "chunks in drops": (raw.head("POST /", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "idle after an answer": (raw.head("GET /healthz"), b""),
}
ESTABLISHED = 1  # the state that TCP_INFO begins with, tcp_states.h


def is_open(client: socket.socket) -> bool:
    """Tell whether the other side has neither closed nor reset the connection."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


def test_slow_clients_are_closed_and_slow_down_nobody(daemon: Daemon, service: Service) -> None:
    timeouts = (f"--{each}-timeout=0.5" for each in ("head", "body", "idle"))
    daemon.start("--min-rate=10K", *timeouts)  # what drops never come up to
    clients = {name: daemon.connect() for name in DAWDLERS}
    for name, (begin, _) in DAWDLERS.items():
        clients[name].sendall(begin)

    # They go on while a good client, each time on a connection of its own, is served beside them.
    def dawdle_on() -> bool:
        for name, (_, drop) in DAWDLERS.items():
            with suppress(ConnectionError):
                clients[name].sendall(drop)
        assert service.get("/healthz").text == "ok\n"
        service.close()
        return not any(map(is_open, clients.values()))

    until(dawdle_on, "a slow client is not closed")
    for client in clients.values():
        client.close()


def test_client_that_takes_no_answer_is_closed(daemon: Daemon, service: Service) -> None:
    daemon.start("--send-timeout=0.5")
    idle = connections(daemon)
    digest = service.post("/", data=bytes(32 * MIB)).text  # more than sockets hold
    service.close()
    with daemon.connect() as client:
        client.sendall(raw.head(f"GET /?file_hash={digest}"))
        assert client.recv(1)
        until(lambda: connections(daemon) == idle, "it is not closed")
        assert len(raw.receive_all(client)) < 32 * MIB


# ---- no room


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Path]:
    """A store of 4 MiB, on a file system of its own."""
    store = tmp_path / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", store], check=True)
    yield store
    subprocess.run(["umount", store], check=True)


@pytest.mark.root
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_full_store(
    framing: Callable[[bytes], bytes], small_store: Path, daemon: Daemon, service: Service
) -> None:
    daemon.start()
    kept = service.post("/", data=b"kept").text
    for size in (8 * MIB, 300_000, 1):  # the last two find no room at all
        answer = raw.ask(daemon.connect(), framing(os.urandom(size)))
        assert (answer.status, answer.content) == (507, b"the store is full\n")
        assert service.get_file(kept).content == b"kept"
        assert service.post("/", data=b"kept").text == kept  # is there, and needs none
        until(lambda: not daemon.staged(), "what found no room stays staged")
        fill(small_store / "filler")
    assert service.get("/readyz").status_code == 503
    (small_store / "filler").unlink()
    assert raw.ask(daemon.connect(), framing(bytes(MIB))).status == 200
    assert service.get("/readyz").status_code == 200


def fill(file: Path) -> None:
    """Take all the room that is left."""
    with suppress(OSError), file.open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def expect_read_only(daemon: Daemon, service: Service, reason: str) -> None:
    """Upload and delete are refused with the reason; what is stored before can be read."""
    kept = hashlib.md5(b"kept").hexdigest()
    for size in (1, MIB):
        answer = service.post("/", data=os.urandom(size))
        assert (answer.status_code, answer.text) == (500, f"the store failed: {reason}\n")
    answer = service.get("/readyz")
    assert (answer.status_code, answer.text) == (503, f"the store is not writable: {reason}\n")
    assert service.get("/healthz").status_code == 200
    assert service.get_file(kept).content == b"kept"
    logged = daemon.life_log()
    assert "the store failed" in logged
    assert reason in logged


@pytest.mark.root
def test_store_that_becomes_read_only(
    small_store: Path, daemon: Daemon, service: Service, tmp_path: Path
) -> None:
    daemon.start()
    kept = service.post("/", data=b"kept").text
    subprocess.run(["mount", "-o", "remount,ro", small_store], check=True)
    expect_read_only(daemon, service, "Read-only file system")
    assert service.delete(f"/?file_hash={kept}").status_code >= 500
    assert service.get_file(kept).content == b"kept"
    (tmp_path / "other").mkdir()
    second = Daemon(tmp_path / "other").command("start", f"--store={small_store}")
    assert second.returncode == 1
    assert second.stderr == (
        f"filestored: cannot use the store {small_store}: Read-only file system\n"
    )
    subprocess.run(["mount", "-o", "remount,rw", small_store], check=True)
    assert service.get("/readyz").status_code == 200
    assert service.delete(f"/?file_hash={kept}").status_code == 200


@pytest.mark.root
def test_store_that_the_daemon_may_not_write() -> None:
    with service_as_nobody() as service:
        service.post("/", data=b"kept")
        os.chown(service.daemon.store / ".tmp", 0, 0)
        expect_read_only(service.daemon, service, "Permission denied")
