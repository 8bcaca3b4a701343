"""A daemon under a rain of damaged requests: it stays what it was, and leaks nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests import raw
from tests.corpus import CASES
from tests.daemons import Daemon, until
from tests.service import Service
from tests.streams import random_cuts

KEPT = b"what has to be there at the end"
DIGEST = hashlib.md5(KEPT).hexdigest()
OTHER = hashlib.md5(b"content").hexdigest()
KNOWN = f"/?file_hash={DIGEST}"

# What the API is asked for, so that damage is done to what gets past the parser as well.
ASKED = [
    raw.head(f"GET {KNOWN}"),
    raw.head(f"GET {KNOWN}&name=photo.jpg", "Range: bytes=1-2,5-", f'If-Range: "{DIGEST}"'),
    raw.head(f"GET {KNOWN}&stat", "Accept: application/json"),
    raw.head(f"GET {KNOWN}", f'If-None-Match: "{DIGEST}"', "If-Modified-Since: Sun, 06 Nov 1994"),
    raw.head("GET /", "Accept: text/html;q=0.9, */*;q=0.1"),
    raw.head("GET /files/?limit=3&name=a&after=eyJh"),
    raw.head("GET /files/00000000-0000-4000-8000-000000000000/"),
    raw.head("DELETE /files/00000000-0000-4000-8000-000000000000/"),
    raw.head(f"DELETE /?file_hash={OTHER}", "If-Match: *"),
    raw.head("GET /healthz"),
    raw.head("GET /readyz"),
    raw.post(b"content"),
    raw.post(b"content", "Content-MD5: mnz9yWgUDM+1Vx0XNIpJvw==", target=f"/?file_hash={OTHER}"),
    raw.post(b"content", "Content-Digest: sha-256=:AAAA:", "Expect: 100-continue"),
    raw.post(b"content", "Content-Disposition: attachment; filename*=UTF-8''%e2%82%ac.txt",
             target="/files/"),
    raw.post(b"content", target="/files/photo.jpg"),
    raw.chunked(b"content in chunks"),
    raw.form(raw.part(raw.FILE, b"content"), raw.part('name="more"', b"a field")),
    raw.form(raw.part(raw.FILE, b"content"), raw.part(raw.FILE, b"more")),
]  # fmt: skip
SEEDS = [*ASKED * 10, *(case.data for case in CASES.values())]
WORDS = [b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"chunked", b"0", b"-", b"%", b"\xff", b"9" * 20]


THREADS = 2 * 8  # that the daemon has


def damaged(random: Random) -> bytes:
    """Return a few requests in a row with a few faults in them."""
    data = bytearray(b"".join(random.choices(SEEDS, k=random.randint(1, 3))))
    for _ in range(random.randrange(5)):
        start = random.randrange(len(data) + 1)
        end = start + random.choice([0, 0, 1, 2, 50])
        again = data[start : start + random.randrange(60)]
        data[start:end] = random.choice([*WORDS, bytes(again), random.randbytes(2), b""])
    return bytes(data)


def converse(client: socket.socket, random: Random) -> list[raw.Answer]:
    """Send damaged requests in pieces, leave in one of many ways; return what was answered."""
    ending = random.choice(["read", "read", "read", "reset", "close"])
    with suppress(BrokenPipeError, ConnectionResetError):
        for piece in random_cuts(damaged(random), random, 3):
            client.sendall(piece)
        if ending == "read":
            half_close(client)
            return raw.answers_in(raw.receive_all(client))
    if ending == "reset":  # socket(7), SO_LINGER
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return []


def half_close(client: socket.socket) -> None:
    """Send no more; that the server has cut the client off by now is as good."""
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def rain(daemon: Daemon, random: Random, conversations: int) -> set[int]:
    """Hold that many conversations, with a few that never say anything; return all statuses."""
    statuses = set()
    silent = [daemon.connect() for _ in range(20)]
    for _ in range(conversations):
        with daemon.connect() as client:
            statuses |= {answer.status for answer in converse(client, random)}
    for client in silent:
        client.close()
    return statuses


class Held(NamedTuple):
    """What a daemon's processes hold."""

    workers: frozenset[int]
    descriptors: int  # but for the catalog's
    catalog: int  # descriptors; every thread connects when it first needs to
    memory: int  # bytes


class Gauge:
    """Tells what a daemon holds at rest."""

    def __init__(self, daemon: Daemon) -> None:
        """Take a daemon without clients."""
        self._daemon = daemon
        self._sockets = self._count_sockets()

    def read(self) -> Held:
        """Count when the last connection has gone, and what it was about."""
        until(lambda: not self._daemon.staged(), "something stays staged")
        until(lambda: self._count_sockets() == self._sockets, "a connection stays open")
        workers = frozenset(self._daemon.workers())
        pids = [self._daemon.pid, *workers]
        links = [link for pid in pids for link in open_in(pid)]
        catalog = sum("/.catalog" in link for link in links)
        return Held(workers, len(links) - catalog, catalog, sum(map(memory_of, pids)))

    def _count_sockets(self) -> int:
        links = [link for pid in self._daemon.workers() for link in open_in(pid)]
        return sum(link.startswith("socket:") for link in links)


def open_in(pid: int) -> list[str]:
    """Return what a process has open."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed just now
            links.append(os.readlink(entry))
    return links


def memory_of(pid: int) -> int:
    """Return the bytes that a process has in memory."""
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident * os.sysconf("SC_PAGESIZE")


ROUNDS = [
    pytest.param(1_000, 4 << 20, "none", id="short"),
    pytest.param(40_000, 8 << 20, "full", id="long", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("conversations", "growth", "durability"), ROUNDS)
def test_a_rain_of_damaged_requests(
    conversations: int, growth: int, durability: str, daemon: Daemon
) -> None:
    daemon.start("--max-body=1M", f"--durability={durability}")
    gauge, random = Gauge(daemon), Random(9110)
    with Service(daemon) as service:
        assert service.post("/", data=KEPT).text == DIGEST
    statuses = rain(daemon, random, conversations // 2)  # fills what is remembered and cached
    before = gauge.read()
    statuses |= rain(daemon, random, conversations // 2)
    after = gauge.read()
    assert after.workers == before.workers
    assert after.descriptors <= before.descriptors
    assert after.catalog <= 4 * THREADS  # the database, its log and its index, and the locks
    assert after.memory <= before.memory + growth
    assert statuses >= {200, 201, 206, 304, 400, 404, 405, 411, 417, 501, 505}
    assert not statuses & {500, 503, 507}
    assert "ERROR" not in daemon.life_log()
    check_store(daemon)


def check_store(daemon: Daemon) -> None:
    """Fail unless what was stored is there, and all that is there is whole."""
    for blob in daemon.store.glob("??/*"):
        assert hashlib.md5(blob.read_bytes()).hexdigest() == blob.name
    with Service(daemon) as service:
        assert service.get_file(DIGEST).content == KEPT
