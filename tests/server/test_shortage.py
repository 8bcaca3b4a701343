from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemons import PATIENCE, PROJECT
from tests.served import Client, request
from tests.server.scarce import DESCRIPTORS

SCRIPT = Path(__file__).with_name("scarce.py")


@pytest.fixture
def port() -> Iterator[int]:
    env = os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def numbers(client: Client) -> tuple[int, ...]:
    return tuple(map(int, client.ask(request()).content.split()))


def test_more_clients_than_descriptors_wait_for_their_turn(port: int) -> None:
    with ExitStack() as stack:
        clients = [Client(("127.0.0.1", port)) for _ in range(DESCRIPTORS + DESCRIPTORS // 2)]
        for client in clients:
            stack.callback(client.close)
        turns, errors, served = numbers(clients[0])
        assert served < DESCRIPTORS
        assert errors == 1  # said once, not with every attempt
        assert turns < 30  # a few attempts a second; a loop that spins makes 100,000 turns

        for client in clients[:served]:
            client.close()
        for client in clients[served:]:
            client.send(request())
        for client in clients[served:]:
            assert client.read_reply().status == 200
