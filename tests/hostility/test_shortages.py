"""A worker that runs out of descriptors or of memory goes on with less, and loses nothing."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests import vitals
from tests.daemons import Daemon, until
from tests.served import Client, request
from tests.service import Service, path_in

MIB = 1 << 20
PING = request("/healthz")


@pytest.fixture
def worker(daemon: Daemon) -> int:
    """The pid of the one worker of the test's daemon, which runs and has opened what it needs."""
    daemon.start("--workers=1")
    (worker,) = daemon.workers()
    idle = vitals.sockets(worker)
    with Service(daemon) as service:
        assert service.delete(f"/?file_hash={service.post('/', data=bytes(MIB)).text}").ok
        # To load the catalog, and to count the store for the first time, opens files: what is let
        # go of after that would look like room.
        until(daemon.loaded, "the catalog is loaded")
        until(lambda: "\nfilestored_blobs " in service.get("/metrics").text, "the store is counted")
    until(lambda: vitals.sockets(worker) == idle)
    return worker


@contextmanager
def limited(pid: int, kind: int, value: int) -> Iterator[None]:
    """Give a running process a lower limit for a while (prlimit(2))."""
    soft, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, (soft, hard))


def connect(daemon: Daemon) -> Client:
    return Client(("127.0.0.1", daemon.port))


def upload(content: bytes) -> bytes:
    return request("/", method="POST", content=content)


# ---- descriptors

SPARE = 20  # that the worker may open beyond what it has
IDLE_CPU = 0.3  # seconds of a second; a loop that spins takes all of it


def test_without_descriptors_it_waits_and_recovers(daemon: Daemon, worker: int) -> None:
    kept = os.urandom(5000)
    digest = connect(daemon).ask(upload(kept)).content.decode()
    get = request(f"/?file_hash={digest}")
    few = len(vitals.descriptors(worker)) + SPARE
    clients = [connect(daemon) for _ in range(2)]
    assert [client.ask(PING).status for client in clients] == [200, 200]
    with limited(worker, resource.RLIMIT_NOFILE, few):
        clients += [connect(daemon) for _ in range(3 * SPARE)]
        for client in clients[2:]:
            client.send(PING)
        until(lambda: "cannot accept connections for now" in daemon.life_log())

        # Those who have a connection are told what there is no descriptor for.
        reply = clients[0].ask(upload(b"new"))
        assert (reply.status, reply.content) == (503, b"too many files are open; try again\n")
        assert clients[1].ask(get).status == 503
        assert clients[1].ask(PING).status == 200

        before = vitals.cpu_seconds(worker)
        time.sleep(1)
        assert vitals.cpu_seconds(worker) - before < IDLE_CPU
    # With room again everybody who has waited is served.
    assert [client.read_reply().status for client in clients[2:]] == [200] * 3 * SPARE
    assert clients[-1].ask(get).content == kept
    assert clients[0].ask(upload(b"new")).status == 200
    for client in clients:
        client.close()
    assert daemon.workers() == {worker}
    assert daemon.life_log().count("cannot accept connections for now") == 1


# ---- memory


def try_upload(daemon: Daemon, content: bytes) -> str | None:
    """Upload; return the digest where that was acknowledged."""
    client = connect(daemon)
    try:
        reply = client.ask(upload(content))
    except (AssertionError, ConnectionError):  # the connection has ended instead
        return None
    finally:
        client.close()
    assert reply.status in (200, 500, 503), reply
    return reply.content.decode() if reply.status == 200 else None


@pytest.mark.parametrize("spare", [0, MIB // 2, 2 * MIB])
def test_without_memory_nothing_acknowledged_is_lost(
    spare: int, daemon: Daemon, worker: int
) -> None:
    contents = [os.urandom(size) for size in (100, 5000, MIB, 4 * MIB) for _ in range(8)]
    with limited(worker, resource.RLIMIT_AS, vitals.address_space(worker) + spare):
        with ThreadPoolExecutor(len(contents)) as pool:
            digests = list(pool.map(lambda content: try_upload(daemon, content), contents))
    assert None in digests  # there was not enough for everybody
    for digest, content in zip(digests, contents, strict=True):
        assert digest is None or path_in(daemon.store, digest).read_bytes() == content
    until(lambda: not daemon.staged(), "something stays staged")
    with Service(daemon) as service:
        for content in contents:  # with memory again everything is taken, and given
            digest = service.post("/", data=content).text
            assert service.get_file(digest).content == content
    assert daemon.workers() == {worker}
    assert "Traceback" not in daemon.life_log()
