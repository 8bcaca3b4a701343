"""The order of it all: stages, and in each the rounds in which the servers take turns."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from bench import machine
from bench.cases import CASES, UPLOADS, Case
from bench.clients.wrk import Failed
from bench.peers import PEERS, Filestored, Md5sum, Nginx, Peer
from bench.peers.peer import on_cores
from bench.results import Results, Sample
from bench.stand import MIB, BigFile, Layout, Stand, layouts
from bench.tables import number

TITLE = 36  # characters that a case's title has room for


class Stage(NamedTuple):
    """Cases that are measured with the same servers running, by turns in each of the layouts."""

    layouts: tuple[str, ...]
    cases: tuple[str, ...]
    peers: tuple[type[Peer], ...] = PEERS
    started: bool = True
    rounds: int | None = None  # where it is not for the plan to say


class Plan(NamedTuple):
    """All that one run measures."""

    stages: tuple[Stage, ...]
    rounds: int
    seconds: int  # of each turn under load
    big: int  # bytes of the big file

    def only(self, word: str) -> Plan:
        """Return what is left of it with the cases that have a word in their key."""
        left = [
            stage._replace(cases=tuple(case for case in stage.cases if word in case))
            for stage in self.stages
        ]
        return self._replace(stages=tuple(stage for stage in left if stage.cases))


FULL = Plan(
    (
        Stage(("one",), ("get 4k 1", "get 4k 16", "get 4k 256", "get many", "get 64k",
                         "post 1", "post 16")),
        Stage(("one", "all"), ("get 4k 64", "close", "range", "post 64", "big up", "big down")),
        Stage(("one",), ("idle", "uploads", "uploads full"), (Filestored, Nginx)),
        Stage(("all",), ("memory",), (Filestored,), rounds=1),
        Stage(("one",), ("start",), started=False),
    ),
    rounds=3, seconds=2, big=1024 * MIB,
)  # fmt: skip
QUICK = Plan(
    (
        Stage(("one",), ("get 4k 64", "close", "post 64"), (Filestored, Nginx)),
        Stage(("all",), ("big up",), (Filestored, Nginx, Md5sum)),
        Stage(("one",), ("start",), (Filestored, Nginx), started=False),
    ),
    rounds=5, seconds=1, big=256 * MIB,
)  # fmt: skip


def measure(plan: Plan, folder: Path, results: Results) -> None:
    """Carry out a plan in a folder, saying how it goes; what is stored there is removed."""
    size = affordable(plan.big, shutil.disk_usage(folder).free, machine.memory())
    if size < plan.big:
        print(f"for want of room big files have {size // MIB} MiB")
    big = BigFile(folder / "big", size)
    for stage in plan.stages:
        chosen = [layouts()[key] for key in stage.layouts]
        present = [kind for kind in stage.peers if kind.program() is not None]
        cases = [case for case in CASES if case.key in stage.cases]
        takes_part = [kind for kind in present if any(case.part in kind.parts for case in cases)]
        print(f"\n{'; '.join(layout.title for layout in chosen)}", flush=True)
        # Removed with all else at the end, and not before: for minutes ext4 gives no new file the
        # inode of one that was deleted, and passes over one after the other. With 10,000 of them
        # each upload takes 2 ms of the kernel's time.
        with ExitStack() as stack:
            stands = [
                stack.enter_context(
                    Stand(Path(mkdtemp(dir=folder)), layout, takes_part, plan.seconds, big,
                          started=stage.started)
                )
                for layout in chosen
            ]  # fmt: skip
            for case in cases:
                alternate(stands, case, stage.rounds or plan.rounds, results)
    if results.pulses:
        rhythm = machine.rhythm(results.pulses)
        results.facts["a loop of Python, before each turn"] = rhythm
        print(f"\na loop of Python, before each turn: {rhythm}")


def affordable(wanted: int, free: int, memory: int) -> int:
    """Return what a big file may have, in bytes.

    Many of them are uploaded at once, and half of the disk is left free. And every server holds one
    on each stand, all of which are to stay in memory.
    """
    return min(wanted, free // (2 * UPLOADS) // MIB * MIB, memory // (2 * len(PEERS)) // MIB * MIB)


def alternate(stands: Sequence[Stand], case: Case, rounds: int, results: Results) -> None:
    """Give every server a turn on each of the stands, again and again.

    Those of one server follow each other, as its layouts are compared.
    """
    print(f"  {case.title:{TITLE}}", end="", flush=True)
    servers: dict[str, list[tuple[Stand, Peer]]] = defaultdict(list)
    for stand in stands:
        for peer in stand.peers:
            if case.part in peer.parts:
                servers[peer.title].append((stand, peer))
    order = list(servers.values())
    for _ in range(rounds):
        for stand, peer in chain.from_iterable(order):
            results.add(stand.layout.key, case.key, peer.title, turn(stand, peer, case, results))
        # Whoever comes before another may leave it something.
        order = [server[::-1] for server in order[1:] + order[:1]]
    told = (_told(stand.layout, case, list(servers), results) for stand in stands)
    print(f"\n  {'':{TITLE}}".join(told), flush=True)


def turn(stand: Stand, peer: Peer, case: Case, results: Results) -> Sample:
    """Measure a case with one server; return nothing where that fails."""
    os.sync()  # what one has left to be written is not for the next to wait for
    with on_cores(stand.layout.servers[:1]):
        results.pulses.append(machine.pulse())
    try:
        return case.measure(stand, peer)
    except (Failed, OSError, ValueError) as failure:
        print(f"\n    {peer.title} has failed: {failure}", flush=True)
        return {}


def _told(layout: Layout, case: Case, servers: Sequence[str], results: Results) -> str:
    """Say in a word what a case has shown."""
    told = []
    for server in servers:
        figures = results.medians(layout.key, case.key, server)
        if figures:
            told.append(f"{server} {number(figures[case.figure])}")
    return " · ".join(told)
