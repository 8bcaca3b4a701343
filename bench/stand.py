"""Where a comparison takes place: which cores are whose, the servers that run, what they hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.clients import transfer
from bench.peers import Peer

MIB = 1 << 20


class Layout(NamedTuple):
    """Cores of each server, which has a worker a core, and those of its clients."""

    key: str
    title: str
    servers: list[int]
    client: list[int]


def layouts() -> dict[str, Layout]:
    """Return both layouts by their keys."""
    cores = sorted(os.sched_getaffinity(0))
    return {
        "one": Layout("one", "one core for the server, one for the client", cores[:1],
                      cores[1:2] or cores),
        "all": Layout("all", "all cores for both", cores, cores),
    }  # fmt: skip


class Targets(NamedTuple):
    """Files of one size that a server holds."""

    url: str  # where it listens
    list: Path  # a file with a target a line
    first: str


class BigFile:
    """A file of random bytes that is made when it is wanted: flushed, and in the page cache."""

    def __init__(self, path: Path, size: int) -> None:
        """Take where it is to be, and its size in bytes."""
        self._path = path
        self.size = size

    @cached_property
    def path(self) -> Path:
        """Where it is."""
        with self._path.open("wb") as file:
            for _ in range(self.size // MIB):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
        return self._path

    def make_room(self) -> None:
        """Take memory for as much, and let go of it.

        A virtual machine may give what is free back to its host, and whoever stores something after
        that has to have it given anew. All are to find the same, whoever came before.
        """
        copy = self.path.with_name("room")
        copy.write_bytes(self.path.read_bytes())
        copy.unlink()


class Stand:
    """Runs servers side by side for as long as its block lasts."""

    def __init__(
        self, folder: Path, layout: Layout, peers: Sequence[type[Peer]], seconds: int, big: BigFile,
        *, started: bool,
    ) -> None:  # fmt: skip
        """Take a folder to store in, and a file to upload.

        `seconds`: of one load; `started`: the servers run from the beginning.
        """
        self.layout = layout
        self.seconds = seconds
        self.big = big
        self._started = started
        self._targets: dict[tuple[Peer, int, int], Targets] = {}
        self._big_targets: dict[Peer, str] = {}
        self._folder = folder
        self.peers: list[Peer] = []
        for number, kind in enumerate(peers):
            own = folder / f"{kind.__name__.lower()}-{number}"
            own.mkdir()
            self.peers.append(kind(own))
        self._running = ExitStack()

    def __enter__(self) -> Stand:
        try:
            for peer in list(self.peers):
                self._running.callback(peer.stop)
                if self._started:
                    self._start(peer)
        except BaseException:
            self._running.close()
            raise
        return self

    def _start(self, peer: Peer) -> None:
        """Start a server; go on without it where it does not come up."""
        try:
            peer.start(self.layout.servers)
        except TimeoutError as failure:
            print(f"  without it: {failure}; {peer.last_words()}", flush=True)
            self.peers.remove(peer)

    def __exit__(self, *_: object) -> None:
        for peer, target in self._big_targets.items():
            with suppress(OSError, ValueError):  # it may have died; all is removed at the end
                peer.ask("DELETE", target)  # the memory that it takes
        self._running.close()

    def restart(self, peer: Peer) -> None:
        """Give a server processes that have done nothing yet, over the same files."""
        peer.stop()
        peer.start(self.layout.servers)

    def big_target(self, peer: Peer) -> str:
        """Return where a server holds the big file, which is in the page cache, and on the disk."""
        if peer not in self._big_targets:
            sent_to = peer.upload_target(os.urandom(16).hex())
            answer = transfer.send(peer.port, peer.method, sent_to, self.big.path)
            target = self._big_targets[peer] = peer.download_target(sent_to, answer)
            os.sync()
            transfer.fetch(peer.port, target)
        return self._big_targets[peer]

    def targets(self, peer: Peer, count: int, size: int) -> Targets:
        """Return files that the server holds, so many of that size in bytes; each differs."""
        key = (peer, count, size)
        if key not in self._targets:
            filler = os.urandom(size - 16)
            names = [f"{os.urandom(8).hex()}" for _ in range(count)]
            urls = [peer.store_small(name, name.encode() + filler) for name in names]
            parts = [urlsplit(url) for url in urls]
            lines = [part.path + (f"?{part.query}" if part.query else "") for part in parts]
            path = peer.folder / f"targets-{count}-{size}"
            path.write_text("\n".join(lines))
            self._targets[key] = Targets(f"http://{parts[0].netloc}", path, lines[0])
        return self._targets[key]
