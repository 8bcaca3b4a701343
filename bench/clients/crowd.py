"""Those who are there beside the ones that are measured: idle connections, uploads under way."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from bench.clients.transfer import connect, send
from bench.peers.peer import Peer

# Descriptors of a process beside those of its clients. filestored keeps one free for each client.
BESIDE = 100


def most_idle(wanted: int) -> int:
    """Return how many idle connections this machine's limits allow, `wanted` at most.

    Raises the limit of descriptors, for what is started from now on, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 2 * (wanted + BESIDE)
    if soft < need:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (need, max(need, hard)))
        except (ValueError, OSError):  # only root may raise the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            return min(wanted, hard // 2 - BESIDE)
    return wanted


@contextmanager
def idle(peer: Peer, target: str, count: int) -> Iterator[None]:
    """Hold so many connections that have had one answer each and wait."""
    question = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(connect(peer.port))
            client.sendall(question)
            client.recv(64 * 1024)
        yield


@contextmanager
def uploads(peer: Peer, count: int, file: Path, *, pace: float) -> Iterator[None]:
    """Keep so many uploads of the file under way, each at so many bytes a second.

    Each is a little different. What is under way at the end of the body is broken off.
    """
    over = Event()

    def upload(number: int) -> None:
        lead = f"{number:016x}".encode()
        while not over.is_set():
            target = peer.upload_target(lead.decode())
            send(peer.port, peer.method, target, file, lead=lead, pace=pace,
                 goes_on=lambda: not over.is_set())  # fmt: skip

    with ThreadPoolExecutor(count) as pool:
        under_way: list[Future[None]] = [pool.submit(upload, number) for number in range(count)]
        try:
            yield
        finally:
            over.set()
    for each in under_way:
        each.result()
