from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest
from loguru import logger

from httpd.exchange import Request, Response
from httpd.server.connection import Handler
from httpd.server.loop import Loop
from httpd.traps import pause
from tests import pools
from tests.daemons import PATIENCE
from tests.served import Served, settings_of

Serve = Callable[..., Served]
Pair = tuple[socket.socket, socket.socket]


def turn_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Turn the loop until it is true; a test that waits in vain fails instead of hanging."""
    deadline = time.monotonic() + PATIENCE
    loop.spawn(pause(deadline))  # no turn sleeps for ever
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        loop.turn()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return what serves a handler, with the settings that some flags make."""
    with ExitStack() as stack:

        def serve(handle: Handler, *flags: str, listener: socket.socket | None = None) -> Served:
            return stack.enter_context(Served(handle, settings_of(tmp_path, *flags), listener))

        yield serve


def made_loop() -> Iterator[Loop]:
    """Make a loop, and close what it has opened."""
    loop = Loop(threads=4)
    yield loop
    loop._epoll.close()
    pools.close(loop._pool)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Return a loop that the test turns itself."""
    yield from made_loop()


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Collect what is logged as an error."""
    lines: list[str] = []
    sink = logger.add(lines.append, level="ERROR", format="{message}")
    yield lines
    logger.remove(sink)


@pytest.fixture
def echo() -> Handler:
    """Return a handler that tells what was asked of it."""

    async def echo(request: Request) -> Response:
        content = b"".join([piece async for piece in request.body])
        return Response(200, [], f"{request.method} {request.path} ".encode() + content)

    return echo


@pytest.fixture
def deaf() -> Handler:
    """Return a handler that answers without reading the content."""

    async def deaf(_request: Request) -> Response:
        return Response(200, [], b"unheard")

    return deaf


@pytest.fixture
def gate() -> Iterator[Event]:
    """Return what holds a handler up; it opens at the latest when the test is over."""
    gate = Event()
    yield gate
    gate.set()
