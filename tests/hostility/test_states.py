"""Clients that reset or half-close the connection in each of the states that it can be in."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests import raw, vitals
from tests.daemons import Daemon, until
from tests.raw import head, post
from tests.service import Service, blobs_in

MIB = 1 << 20
TIMES = 20
# What is over must be seen at once, and not when some time is up.
PATIENT = [f"--{each}-timeout=1000" for each in ("head", "body", "idle", "send")]
BIG = os.urandom(8 * MIB)  # more than the buffers of both sides hold
NEW = b"new content"


class Scene:
    """A daemon, and a big file in it."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        (self.worker,) = daemon.workers()
        idle = vitals.sockets(self.worker)
        with Service(daemon) as service:  # what is opened once, is open now
            self.big = head(f"GET /?file_hash={service.post('/', data=BIG).text}")
            assert service.delete(f"/?file_hash={service.post('/', data=NEW).text}").ok
        until(lambda: vitals.sockets(self.worker) == idle)
        self.open = vitals.descriptors(self.worker)

    def connect(self) -> socket.socket:
        """Connect with a small receive buffer, so that answers wait with the daemon."""
        client = socket.socket()
        client.settimeout(20)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(("127.0.0.1", self.daemon.port))
        return client


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    daemon = Daemon(tmp_path_factory.mktemp("states"))
    try:
        yield Scene(daemon.start("--workers=1", "--threads=1", *PATIENT))
    finally:
        daemon.end()


Bring = Callable[[Scene, socket.socket], None]


def sent(data: bytes) -> Bring:
    """Bring a connection into the state in which this has been sent."""
    return lambda _scene, client: client.sendall(data)


def staged(data: bytes) -> Bring:
    """The same, and something of it is on the disk."""

    def bring(scene: Scene, client: socket.socket) -> None:
        client.sendall(data)
        until(scene.daemon.staged)

    return bring


def asked(_scene: Scene, client: socket.socket) -> None:
    client.sendall(head("POST /", "Content-Length: 100000", "Expect: 100-continue"))
    assert client.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"


def within_the_answer(scene: Scene, client: socket.socket) -> None:
    client.sendall(scene.big)
    assert client.recv(1000, socket.MSG_WAITALL).startswith(b"HTTP/1.1 200 ")


def within_the_first_of_many(scene: Scene, client: socket.socket) -> None:
    client.sendall(scene.big * 20)
    assert client.recv(1)


def between_requests(_scene: Scene, client: socket.socket) -> None:
    client.sendall(head("GET /healthz"))
    assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def refused(_scene: Scene, client: socket.socket) -> None:
    """The answer is there, and the daemon drops what still comes (RFC 9112 section 9.6)."""
    client.sendall(head("POST /", "Content-Length: 100000000000000") + bytes(MIB))
    assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


STATES: dict[str, Bring] = {
    "connected": sent(b""),
    "within the request line": sent(b"GET / HT"),
    "within the head": sent(head("GET /healthz")[:-2]),
    "asked for the content": asked,
    "within the content": staged(head("POST /", f"Content-Length: {2 * MIB}") + bytes(MIB)),
    "within a chunk": staged(
        head("POST /", "Transfer-Encoding: chunked") + b"fffff\r\n" + bytes(MIB // 2)
    ),
    "within a form": staged(
        raw.form(raw.part(raw.FILE, bytes(MIB)))[: -MIB // 2],
    ),
    "request sent": sent(post(NEW)),
    "within the answer": within_the_answer,
    "within the first of many answers": within_the_first_of_many,
    "between requests": between_requests,
    "refused": refused,
}


def reset(client: socket.socket) -> None:
    """Close so that a reset is sent (socket(7), SO_LINGER)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.fixture
def nothing_left(scene: Scene) -> Iterator[None]:
    """Fail where a descriptor or anything staged is left, or the daemon logs an error."""
    yield
    until(lambda: vitals.descriptors(scene.worker) == scene.open, "a descriptor is kept")
    until(lambda: not scene.daemon.staged(), "something stays staged")
    assert scene.daemon.workers() == {scene.worker}
    assert " ERROR " not in scene.daemon.life_log()


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("bring", STATES.values(), ids=STATES)
def test_reset(bring: Bring, scene: Scene) -> None:
    for _ in range(TIMES):
        client = scene.connect()
        bring(scene, client)
        reset(client)
    stored = blobs_in(scene.daemon.store)
    assert len(stored) in (1, 2)  # the big one, and what was sent whole


@pytest.mark.usefixtures("nothing_left")
def test_reset_before_it_is_accepted(scene: Scene) -> None:
    for _ in range(20 * TIMES):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", scene.daemon.port))
        reset(client)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("bring", STATES.values(), ids=STATES)
def test_half_closed(bring: Bring, scene: Scene) -> None:
    """The daemon finishes what it can and closes its half at once, whatever its timeouts are."""
    clients = [scene.connect() for _ in range(3)]
    for client in clients:
        bring(scene, client)
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        while client.recv(MIB):
            pass
        client.close()


@pytest.mark.usefixtures("nothing_left")
def test_half_closed_client_gets_all_of_its_answers(scene: Scene) -> None:
    with scene.connect() as client:
        client.sendall(scene.big * 3)
        client.shutdown(socket.SHUT_WR)
        received = raw.receive_all(client)
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] == BIG for answer in answers] == [True] * 3
