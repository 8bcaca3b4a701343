"""Everything at once for a long time: uploads, downloads, deletions, kills, reloads, nuisances."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from threading import Event

import pytest

from httpd.server import recall
from tests import raw, vitals
from tests.daemons import PATIENCE, Daemon, until
from tests.served import Client, Reply, request
from tests.service import blobs_in

pytestmark = pytest.mark.hostility

CLIENTS = 6
SHORT, FULL = 45.0, 600.0  # seconds
SIZES = (0, 1, 100, 4096, 70_000, 300_000, 3_000_000)
EVERY = 1.5  # seconds between one kill or reload and the next
# Bytes of a worker in its quiet time: what it may remember of answers, and some slack.
GROWTH = recall.MOST_BYTES + 2048 * recall.MOST_HEADS + (2 << 20)
AT_REST = 64 << 20  # bytes of a worker, whatever it has been through
AT_REST_SOCKETS = 3  # its listener, and the pair that signals come by
BLOB = re.compile(r"/store/(\.tmp|[0-9a-f]{2})/")


class Owner:
    """A client with files of its own, that knows at any time what the daemon must answer."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        self.daemon = daemon
        self.random = Random(number)
        self.files: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.client: Client | None = None
        self.asked = 0
        self.cut_off = 0
        self.story: dict[str, list[tuple[str, int]]] = {}  # what was done, after how many failures

    def work(self, stop: Event) -> None:
        """Do one thing after the other until told to stop."""
        actions = [self.upload] * 3 + [self.fetch] * 5 + [self.delete] * 2 + [self.miss]
        while not stop.is_set():
            self.random.choice(actions)()
        self.hang_up()

    def upload(self) -> None:
        size = self.random.choice(SIZES)
        content = self.random.randbytes(size) + b"%d" % self.random.getrandbits(128)
        digest = hashlib.md5(content).hexdigest()
        framed = self.random.choice((raw.post, chunked, in_a_form))(content)
        before = self.cut_off
        reply = self.ask(framed)  # an upload may be given again, whatever has become of it
        assert (reply.status, reply.content.decode().strip()) == (200, digest)
        self.files[digest] = content
        self.story.setdefault(digest, []).append(("stored", self.cut_off - before))

    def fetch(self) -> None:
        if self.files:
            digest = self.random.choice(list(self.files))
            reply = self.ask(request(f"/?file_hash={digest}"))
            assert (reply.status, reply.content == self.files[digest]) == (200, True)

    def delete(self) -> None:
        if self.files:
            digest = self.random.choice(list(self.files))
            before = self.cut_off
            reply = self.ask(request(f"/?file_hash={digest}", method="DELETE"))
            # The first attempt may have been carried out, and its answer lost.
            assert reply.status == 200 or (reply.status == 404 and self.cut_off > before)
            del self.files[digest]
            self.deleted.append(digest)
            self.story[digest].append(("deleted", self.cut_off - before))

    def miss(self) -> None:
        if self.deleted:
            digest = self.random.choice(self.deleted)
            reply = self.ask(request(f"/?file_hash={digest}"))
            assert reply.status == 404, (digest, self.story[digest])

    def ask(self, data: bytes) -> Reply:
        """Ask until there is an answer; a worker that is killed cuts it off."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline
            try:
                if self.client is None:
                    self.client = Client(("127.0.0.1", self.daemon.port))
                self.asked += 1
                reply = self.client.ask(data)
            except (ConnectionError, AssertionError):
                self.cut_off += 1
                self.hang_up()
                continue
            if reply.closes or self.random.random() < 0.05:
                self.hang_up()
            return reply

    def hang_up(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None


def chunked(content: bytes) -> bytes:
    return raw.chunked(content, size=50_000)


def in_a_form(content: bytes) -> bytes:
    return raw.form(raw.part(raw.FILE, content))


class Chaos:
    """Kills workers, reloads, and leaves connections in all states behind."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.random = Random(0)
        self.kills = self.reloads = 0

    def rage(self, stop: Event) -> None:
        while not stop.wait(EVERY):
            self.annoy()
            if self.random.random() < 0.5:
                self.daemon.signal(signal.SIGHUP)
                self.reloads += 1
            elif workers := sorted(self.daemon.workers()):
                with suppress(ProcessLookupError):
                    os.kill(self.random.choice(workers), signal.SIGKILL)
                self.kills += 1

    def annoy(self) -> None:
        for begun in (b"", b"GET / HT", raw.post(bytes(300_000))[:150_000], b"\0" * 20_000):
            with suppress(ConnectionError):
                client = Client(("127.0.0.1", self.daemon.port))
                client.send(begun)
                (client.abort if self.random.random() < 0.5 else client.close)()


def together(seconds: float, *works: Callable[[Event], None]) -> None:
    """Let all of them work for that long; raise what any of them raises."""
    stop = Event()
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work, stop) for work in works]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(future.done() for future in futures):
            time.sleep(0.05)
        stop.set()
        for future in futures:
            future.result()


def settle(daemon: Daemon) -> None:
    """Wait until the workers of earlier generations are gone."""
    until(lambda: len(daemon.workers()) == 2)
    until(lambda: not daemon.staged())


def test_soak(daemon: Daemon, *, in_full: bool, figure: Callable[[str], None]) -> None:
    seconds = FULL if in_full else SHORT
    daemon.start("--durability=full", "--idle-timeout=5")
    owners = [Owner(daemon, number) for number in range(1, CLIENTS + 1)]
    works = [owner.work for owner in owners]
    together(1, *works)
    # The master's next self does without what the launcher's code had opened.
    assert daemon.command("reload").returncode == 0
    settle(daemon)
    masters = vitals.descriptors(daemon.pid)

    chaos = Chaos(daemon)
    together(seconds / 2, *works, chaos.rage)
    # The last one by signal may be under way, or not even begun; then this one is refused.
    until(lambda: daemon.command("reload").returncode == 0, "no reload succeeds")
    settle(daemon)
    until(lambda: vitals.descriptors(daemon.pid) == masters, "the master holds what it held")
    assert chaos.kills
    assert chaos.reloads

    workers = sorted(daemon.workers())
    together(seconds / 6, *works)
    sizes = [vitals.private_memory(pid) for pid in workers]
    together(seconds / 3, *works)
    grown = [vitals.private_memory(pid) for pid in workers]
    assert sorted(daemon.workers()) == workers
    until(lambda: all(vitals.sockets(pid) <= AT_REST_SOCKETS for pid in workers))
    for pid in workers:
        assert not [name for name in vitals.descriptors(pid) if BLOB.search(name)]

    files = {digest: content for owner in owners for digest, content in owner.files.items()}
    assert blobs_in(daemon.store) == set(files)
    owners[0].files = files
    for digest, content in files.items():
        assert owners[0].ask(request(f"/?file_hash={digest}")).content == content
    figure(
        f"{sum(owner.asked for owner in owners)} requests, {len(files)} files kept, "
        f"{chaos.kills} workers killed, {chaos.reloads} reloads, "
        f"{sum(owner.cut_off for owner in owners)} requests cut off and given again; a worker's "
        f"memory {[size >> 10 for size in sizes]} KiB, later {[size >> 10 for size in grown]} KiB"
    )
    assert all(later - size < GROWTH for size, later in zip(sizes, grown, strict=True))
    assert max(grown) < AT_REST
