"""Many connections at once, one after the other, and some that never read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import vitals
from tests.daemons import PROJECT, Daemon, until
from tests.hostility.conftest import allow_descriptors
from tests.hostility.good_client import GoodClient
from tests.served import Client, request
from tests.service import Service

KIB = 1024
MOST_A_CONNECTION = 4 * KIB  # of a worker's memory, for one that waits for its next request
GROWTH = 2 << 20  # bytes that the allocator may keep for good when a crowd has left
PING = request("/healthz")
Figure = Callable[[str], None]


def connect(daemon: Daemon) -> Client:
    return Client(("127.0.0.1", daemon.port))


@pytest.fixture
def warm(daemon: Daemon) -> Daemon:
    """A daemon with the default limits, that has opened all that it opens once."""
    allow_descriptors(12_000)
    daemon.start("--idle-timeout=600")
    with GoodClient(daemon):
        until(daemon.loaded)
    return daemon


def memory(daemon: Daemon) -> int:
    return sum(map(vitals.private_memory, daemon.workers()))


def open_sockets(daemon: Daemon) -> int:
    return sum(map(vitals.sockets, daemon.workers()))


@pytest.mark.hostility
def test_idle_connections(warm: Daemon, *, in_full: bool, figure: Figure) -> None:
    count = 10_000 if in_full else 3_000
    with GoodClient(warm) as alone:
        until(lambda: len(alone.seconds) >= (3000 if in_full else 500))
    before = memory(warm)
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(connect(warm))
            stack.callback(clients[-1].close)
            assert clients[-1].ask(PING).status == 200
        each = (memory(warm) - before) / count
        with GoodClient(warm) as beside:
            until(lambda: len(beside.seconds) >= (3000 if in_full else 500))
        for client in clients:  # not one has been closed
            assert client.ask(PING).status == 200
        figure(f"{count}, {each:.0f} bytes of the workers' memory each; {beside.told()}")
        figure(f"without them: {alone.told()}")
        assert each < MOST_A_CONNECTION


@pytest.mark.hostility
def test_churn(warm: Daemon, *, in_full: bool, figure: Figure) -> None:
    rounds, visits = (4, 25_000) if in_full else (4, 1_500)
    opened = open_sockets(warm)

    def visit(number: int) -> None:
        client = connect(warm)
        if number % 3 == 0:
            assert client.ask(PING).status == 200
        elif number % 3 == 1:
            client.send(PING[:10])
        (client.abort if number % 2 else client.close)()

    sizes = []
    with GoodClient(warm) as good:
        for _ in range(rounds):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(visit, range(visits)))
            sizes.append(memory(warm))
    until(lambda: open_sockets(warm) == opened, "a connection is kept")
    figure(f"{rounds * visits} connections; memory {[size // KIB for size in sizes]} KiB")
    figure(good.told())
    assert sizes[-1] - sizes[1] < GROWTH  # the first round is still the first of many things


@pytest.mark.hostility
def test_readers_that_stop_for_ever(daemon: Daemon, *, in_full: bool, figure: Figure) -> None:
    count = 1_000 if in_full else 200
    allow_descriptors(4 * count)
    daemon.start("--send-timeout=3")
    with Service(daemon) as service:
        digest = service.post("/", data=os.urandom(8 << 20)).text
    until(lambda: all(map(vitals.descriptors, daemon.workers())))
    with ExitStack() as stack:
        with GoodClient(daemon) as good:
            for _ in range(count):
                client = Client(("127.0.0.1", daemon.port), receive_buffer=4096)
                stack.callback(client.close)
                client.send(request(f"/?file_hash={digest}") * 2)
            peak = memory(daemon)
            until(lambda: open_sockets(daemon) < count // 2, "they are kept for ever")
            until(lambda: open_sockets(daemon) < 20, "some are kept for ever")
        figure(f"{count}, the workers' memory {peak >> 20} MiB; {good.told()}")


# ---- all at the same moment


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, int]:
    """What a thousand clients have met, with a daemon in a network of its own."""
    script = Path(__file__).with_name("thousand.py")
    env = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        ["unshare", "--net", sys.executable, str(script), str(tmp_path)],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted: dict[str, int] = json.loads(done.stdout)
    return counted


@pytest.mark.root
def test_a_thousand_connects_at_once(alone: dict[str, int], figure: Figure) -> None:
    figure(f"{alone}")
    # Who finds the queue full sends its SYN again after a second: the kernel counts both ends.
    assert alone["ListenOverflows"] == alone["ListenDrops"] == alone["RetransSegs"] == 0
    assert alone["answered"] == 1000
