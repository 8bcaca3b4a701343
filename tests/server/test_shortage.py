from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from httpd.server.clients import COMPLAINT_SECONDS
from httpd.server.connection import Handler
from tests.daemons import PATIENCE, PROJECT
from tests.served import Client, request
from tests.server.conftest import Serve
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


class Listener:
    """Accepts once, whatever it is given: a connection, or an error."""

    def __init__(self, outcome: tuple[socket.socket, Any] | OSError) -> None:
        self.outcome = outcome

    def accept(self) -> tuple[socket.socket, Any]:
        if isinstance(self.outcome, OSError):
            raise self.outcome
        return self.outcome


def test_a_shortage_that_comes_and_goes_is_told_now_and_then(serve: Serve, echo: Handler) -> None:
    served = serve(echo)

    def accept(outcome: tuple[socket.socket, Any] | OSError) -> bool:
        listener: Any = Listener(outcome)
        return served.call(lambda: served.server._accept_waiting(listener, 1))

    few = OSError(errno.EMFILE, "too many open files")
    client, accepted = socket.socketpair()
    assert not accept(few)
    assert accept((accepted, ("127.0.0.1", 1)))  # somebody has left in between
    assert not accept(few)
    assert len(served.errors) == 1
    served.server._quiet_until -= COMPLAINT_SECONDS  # as if so much time had gone by
    assert not accept(few)
    assert not accept(few)
    assert served.forgive().count("cannot accept connections for now") == 2
    client.close()
