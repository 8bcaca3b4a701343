"""What is measured: a table of cases, each with how one server's turn goes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from operator import truediv
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.clients import crowd, transfer, wrk
from bench.peers import Filestored, Md5sum, Peer
from bench.peers.peer import on_cores
from bench.results import Sample
from bench.stand import MIB, Stand
from tests.daemons import until
from tests.vitals import private_memory

KIB = 1024
WARM_UP = 1  # seconds for a thousand files
IDLE = 10_000  # connections
IDLE_TURNS = 8
UPLOADS = 16  # at once
DOWNLOADS = 7  # of a big file, one after the other
MEMORY_SECONDS = 5  # what an upload holds it has reached after some pieces of 256 KiB
UPLOAD_PACE = 10 * MIB  # bytes a second of each, while downloads are measured beside them

Measure = Callable[[Stand, Peer], Sample]


class Case(NamedTuple):
    """One kind of work."""

    key: str
    title: str
    part: str  # who takes part, see Peer.parts
    figure: str  # the one that is told at once
    measure: Measure


def small(script: str, connections: int, count: int = 1000, size: int = 4 * KIB,
          field: tuple[str, ...] = ()) -> Measure:  # fmt: skip
    """Measure downloads of so many different files."""

    def measure(stand: Stand, peer: Peer) -> Sample:
        targets = stand.targets(peer, count, size)
        args = (str(targets.list), *field)
        if peer.remembers:
            warm_up = max(1, WARM_UP * count // 1000)
            load(stand, peer, warm_up, script, targets.url, connections, *args)
        return load(stand, peer, stand.seconds, script, targets.url, connections, *args)

    return measure


def uploads(connections: int) -> Measure:
    """Measure uploads of 4 KiB that are sent for the first time."""

    def measure(stand: Stand, peer: Peer) -> Sample:
        named = "name" if peer.named_by_client else "/"
        begin = os.urandom(4).hex()
        args = (peer.method, begin, named)
        return load(stand, peer, stand.seconds, "upload.lua", peer.url, connections, *args)

    return measure


def load(
    stand: Stand, peer: Peer, seconds: int, script: str, url: str, connections: int, *args: str
) -> Sample:
    """Let wrk run: requests a second, µs of CPU for each, and ms that they took."""
    before = peer.cpu()
    told = wrk.run(script, url, connections, seconds, stand.layout.client, *args)
    each = 1e6 / told.requests
    return {
        "rate": told.requests / told.seconds,
        "cpu": (peer.cpu() - before) * each,
        "client": told.cpu * each,
        "p50": told.p50,
        "p99": told.p99,
        "p999": told.p999,
    }


def upload(stand: Stand, peer: Peer) -> Sample:
    """Upload a big file, download it once, delete it: MiB a second, and seconds of CPU."""
    size, big = stand.big.size / MIB, stand.big.path
    if isinstance(peer, Md5sum):
        with spent(peer) as up:
            peer.read(big)
        return one_way("up", size, up)
    target = peer.upload_target(os.urandom(16).hex())
    stand.big.make_room()
    with on_cores(stand.layout.client):
        with spent(peer) as up:
            answer = transfer.send(peer.port, peer.method, target, big)
        target = peer.download_target(target, answer)
        with spent(peer) as first:
            transfer.fetch(peer.port, target)
    peer.ask("DELETE", target)
    return one_way("up", size, up) | one_way("first", size, first)


def download(stand: Stand, peer: Peer) -> Sample:
    """Download a big file that has been downloaded before, as above; the middle of some times."""
    target = stand.big_target(peer)
    times = []
    with on_cores(stand.layout.client):
        for _ in range(DOWNLOADS):  # they are short, and one takes twice as long as the next
            with spent(peer) as down:
                transfer.fetch(peer.port, target)
            times.append(down)
    middle = {figure: median(each[figure] for each in times) for figure in times[0]}
    return one_way("down", stand.big.size / MIB, middle)


def one_way(name: str, size: float, taken: Sample) -> Sample:
    """Name the figures of a transfer of so many MiB."""
    seconds, cpu = taken["seconds"], taken["cpu"]
    return {name: size / seconds, f"{name}_cpu": cpu, f"{name} seconds": seconds}


@contextmanager
def spent(peer: Peer) -> Iterator[Sample]:
    """Measure what the body takes: seconds, and those of the server's CPU."""
    sample: Sample = {}
    begun, used = time.monotonic(), peer.cpu()
    yield sample
    sample["seconds"], sample["cpu"] = time.monotonic() - begun, peer.cpu() - used


def beside_idle(stand: Stand, peer: Peer) -> Sample:
    """Measure what an idle connection takes, and downloads without and with them, by turns.

    One p99 differs from the next by half with nothing changed: so there are many turns, each is
    compared with its neighbour, and every second pair is the other way round.
    """
    stand.restart(peer)
    count = crowd.most_idle(IDLE)
    target = stand.targets(peer, 1000, 4 * KIB).first
    load_it = small("get.lua", 64)
    alone, beside, memory = [], [], []

    def load_alone() -> None:
        alone.append(load_it(stand, peer)["p99"])

    def load_beside() -> None:
        before = sum(map(private_memory, peer.processes()))
        with crowd.idle(peer, target, count):
            memory.append(sum(map(private_memory, peer.processes())) - before)
            beside.append(load_it(stand, peer)["p99"])

    for turn in range(IDLE_TURNS):
        pair = (load_alone, load_beside) if turn % 2 == 0 else (load_beside, load_alone)
        for measure in pair:
            measure()
    return {
        "count": count,
        "each": max(memory) / count,  # of later crowds it has some already
        "p99 alone": median(alone),
        "p99 beside": median(beside),
        "p99 ratio": median(map(truediv, beside, alone)),
    }


def beside_uploads(pace: float) -> Measure:
    """Measure downloads while big uploads run, each at so many bytes a second."""

    def measure(stand: Stand, peer: Peer) -> Sample:
        with on_cores(stand.layout.client):
            with crowd.uploads(peer, UPLOADS, stand.big.path, pace=pace):
                return small("get.lua", 16)(stand, peer)

    return measure


def memory(stand: Stand, peer: Peer) -> Sample:
    """Measure the memory of the whole daemon in MiB, idle and at most under big uploads.

    What the processes share counts once where they are idle (Pss, proc(5)). What they have more at
    most is added up from each one's own high-water mark.
    """
    assert isinstance(peer, Filestored)
    target = stand.targets(peer, 1, 4 * KIB)
    peer.ask("GET", target.first)
    until(peer.daemon.loaded, "a worker does not load the catalog")  # or that would be no idling
    workers = len(peer.daemon.workers())
    peer.daemon.memory(anew=True)
    idle = sum(map(shared_memory, peer.processes())) / MIB
    begin = peer.daemon.memory()
    with crowd.uploads(peer, UPLOADS, stand.big.path, pace=inf):
        time.sleep(MEMORY_SECONDS)
    above = (peer.daemon.memory() - begin) / MIB
    size = stand.big.size / MIB
    return {"idle": idle, "a worker": idle / workers, "above": above, "size": size}


def start_and_stop(stand: Stand, peer: Peer) -> Sample:
    """Measure seconds to the first answer, and to the end of the last process."""
    started = peer.start(stand.layout.servers)
    begun = time.monotonic()
    peer.stop()
    return {"start": started, "stop": time.monotonic() - begun}


def shared_memory(pid: int) -> int:
    """Return the bytes in memory of a process, its part of what it shares with others included."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(each) << 10 for each in re.findall(r"^Pss:\s*(\d+) kB$", text, re.MULTILINE))


CLOSE = ("Connection", "close")
RANGE = ("Range", "bytes=65536-69631")

CASES = (
    Case("get 4k 1", "GET 4 KiB, 1 connection", "get", "rate", small("get.lua", 1)),
    Case("get 4k 16", "GET 4 KiB, 16 connections", "get", "rate", small("get.lua", 16)),
    Case("get 4k 64", "GET 4 KiB, 64 connections", "get", "rate", small("get.lua", 64)),
    Case("get 4k 256", "GET 4 KiB, 256 connections", "get", "rate", small("get.lua", 256)),
    Case("get many", "GET 4 KiB of 5,000 files", "get", "rate", small("get.lua", 64, 5000)),
    Case("get 64k", "GET 64 KiB", "get", "rate", small("get.lua", 64, 1000, 64 * KIB)),
    Case("close", "GET, each a new connection", "get", "rate", small("get.lua", 64, field=CLOSE)),
    Case("range", "4 KiB out of 1 MiB", "get", "rate", small("get.lua", 64, 10, MIB, RANGE)),
    Case("post 1", "POST 4 KiB, 1 connection", "post", "rate", uploads(1)),
    Case("post 16", "POST 4 KiB, 16 connections", "post", "rate", uploads(16)),
    Case("post 64", "POST 4 KiB, 64 connections", "post", "rate", uploads(64)),
    Case("big up", "a big file up", "up", "up", upload),
    Case("big down", "a big file down", "down", "down", download),
    Case("idle", "GET 4 KiB beside idle connections", "crowd", "each", beside_idle),
    Case("uploads", "GET 4 KiB beside big uploads", "crowd", "p99", beside_uploads(UPLOAD_PACE)),
    Case("uploads full", "the same, as fast as they go", "crowd", "p99", beside_uploads(inf)),
    Case("memory", "memory under big uploads", "memory", "above", memory),
    Case("start", "start and stop", "start", "start", start_and_stop),
)
