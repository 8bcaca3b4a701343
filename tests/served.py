"""A server on a thread of the test's own process, and a client that takes nothing on trust."""

from __future__ import annotations

import fcntl
import gc
import os
import re
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import pytest
from loguru import logger

from httpd import config, log
from httpd.server.connection import Handler
from httpd.server.listener import Server
from httpd.server.loop import Loop, Task
from httpd.server.tally import Tally
from httpd.server.traffic import Traffic
from httpd.traps import readable
from tests import pools
from tests.daemons import PATIENCE, until

T = TypeVar("T")
Address = tuple[str, int] | str

BACKLOG = 1024
STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z' -]+")
FIELD_LINE = re.compile(rb"([A-Za-z0-9-]+): ([^\r\n\0]*)")
# Answers that never have content, whatever their fields say (RFC 9112 section 6.3).
BARE = {100, 304}


def settings_of(home: Path, *flags: str) -> config.Settings:
    """Return the settings that these flags make, whatever the surroundings set."""
    return config.read(["run", *flags], home=home, sources=[])[1]


def listen_tcp() -> socket.socket:
    """Listen on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def listen_unix(path: Path) -> socket.socket:
    """Listen on a unix socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    return listener


def request(
    target: str = "/",
    *fields: str,
    method: str = "GET",
    content: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """Render a request; `content` comes with its Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *fields]
    if content is not None:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (content or b"")


class Reply(NamedTuple):
    """A response as it was received."""

    status: int
    fields: dict[str, str]  # names in lower case, as the server repeats none
    content: bytes

    @property
    def closes(self) -> bool:
        """Whether it announces the end of the connection."""
        return self.fields.get("connection") == "close"


class Client:
    """A connection to the server; every wait on it has an end."""

    def __init__(self, address: Address, receive_buffer: int = 0) -> None:
        """Connect; a small `receive_buffer`, in bytes, leaves more with the server."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def ask(self, data: bytes, method: str = "GET") -> Reply:
        """Send a request and read its response."""
        self.send(data)
        return self.read_reply(method)

    def read_reply(self, method: str = "GET") -> Reply:
        """Read one response and not a byte more; `method` is that of its request."""
        lead, fields = self.read_lead()
        if lead in BARE or method == "HEAD":
            return Reply(lead, fields, b"")
        return Reply(lead, fields, self.read(int(fields["content-length"])))

    def read_lead(self) -> tuple[int, dict[str, str]]:
        """Read the head of a response: its status, its fields."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        status, fields = STATUS_LINE.fullmatch(status_line), {}
        assert status is not None, status_line
        for line in lines:
            field = FIELD_LINE.fullmatch(line)
            assert field is not None, line
            name = field[1].decode().lower()
            assert name not in fields, line
            fields[name] = field[2].decode("latin-1")
        return int(status[1]), fields

    def read(self, length: int) -> bytes:
        """Read that many bytes."""
        while len(self._received) < length:
            self._receive()
        data, self._received = self._received[:length], self._received[length:]
        return data

    def closed_by_server(self) -> bool:
        """Wait for more, and tell whether it is the orderly end instead."""
        if not self._received:
            self._received = self.socket.recv(1 << 20)
        return not self._received

    def read_to_end(self) -> bytes:
        """Read until the server's orderly end; raise ConnectionResetError at any other."""
        pieces = [self._received]
        while piece := self.socket.recv(1 << 20):
            pieces.append(piece)
        self._received = b""
        return b"".join(pieces)

    def read_what_comes(self) -> bytes:
        """Read until the connection ends, in whatever way."""
        with suppress(ConnectionResetError):
            while piece := self.socket.recv(1 << 20):
                self._received += piece
        return self._received

    def until_delivered(self) -> None:
        """Wait until the server's side has all that was sent (tcp(7), SIOCOUTQ)."""

        def unsent() -> int:
            answer = fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(answer, sys.byteorder)

        until(lambda: unsent() == 0, "what was sent does not arrive")

    def half_close(self) -> None:
        """Send no more, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Vanish: reset the connection (socket(7), SO_LINGER)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def _receive(self) -> None:
        piece = self.socket.recv(1 << 20)
        assert piece, f"the connection ended after {self._received[-200:]!r}"
        self._received += piece


class Served:
    """Serves within a `with`; at its end everything must be over, and nothing left behind."""

    def __init__(
        self, handle: Handler, settings: config.Settings, listener: socket.socket | None = None
    ) -> None:
        """Take the application, and a listening socket in place of a free port."""
        self._handle = handle
        self._settings = settings
        self._listener = listener
        self._clients: list[Client] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._death: BaseException | None = None
        self._spawned: WeakSet[Coroutine[Any, None, None]] = WeakSet()
        self.batches: list[str] = []  # what was written to the log of requests, by call
        self.errors: list[str] = []  # what was logged as an error; the test must `forgive` it

    def __enter__(self) -> Served:
        """Start to serve."""
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(log, "access_wanted", lambda: True)
        self._patch.setattr(log, "access", self.batches.append)
        self._sink = logger.add(self._note_error, level="ERROR", format="{message}")
        listener = self._listener or listen_tcp()
        self._tally = Tally(self._settings.workers)
        self._before = descriptors()
        self.address: Address = listener.getsockname()
        self.loop = Loop(self._settings.threads)
        self.server = Server([listener], self._handle, self._settings, self.loop, self._tally)
        self._patch.setattr(self.loop, "spawn", self._spawn)
        self._mailbox, self._bell = socket.socketpair()
        Loop.spawn(self.loop, self._answer_calls())
        self.server.start()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | object) -> None:
        """Close the clients, drain, and look for whatever is left."""
        for client in self._clients:
            client.close()
        self._post(lambda: self.server.drain(now=True))
        self._thread.join(PATIENCE)
        ended = not self._thread.is_alive()
        self._post(self.loop.stop)
        self._thread.join(PATIENCE)
        # A worker leaves by os._exit and closes nothing of these.
        for each in (self._mailbox, self._bell, self.loop._epoll):
            each.close()
        os.close(self._tally._file)
        logger.remove(self._sink)
        self._patch.undo()
        pools.close(self.loop._pool)
        if self._spawned:
            gc.collect()  # a connection and its coroutine know each other
        if kind is None:
            assert self._death is None, self._death
            assert ended, f"never done with {self.server.connections}"
            assert not self.server.connections
            assert not list(self._spawned)
            assert descriptors().items() <= self._before.items()
            assert not self.errors

    @property
    def lines(self) -> list[str]:
        """The lines of the log of requests."""
        return "".join(self.batches).splitlines()

    def connect(self, receive_buffer: int = 0) -> Client:
        """Return a new client, closed at the end at the latest."""
        client = Client(self.address, receive_buffer)
        self._clients.append(client)
        return client

    def ask(self, data: bytes) -> Reply:
        """Return the response to a request on a connection of its own."""
        return self.connect().ask(data)

    def call(self, function: Callable[[], T]) -> T:
        """Call it on the loop's thread, in a turn, and return its result."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._post(run)
        return future.result(PATIENCE)

    def catch_up(self) -> None:
        """Wait until the loop has seen everything that was sent before."""
        self.call(lambda: None)

    def next_turn(self) -> None:
        """Wait until the loop is in a later turn, so that its time has gone on."""
        before = self.call(lambda: self.loop.now)
        until(lambda: self.call(lambda: self.loop.now) > before)

    def open_connections(self) -> int:
        """Return how many connections the server has."""
        return self.call(lambda: len(self.server.connections))

    def until_alone(self) -> None:
        """Wait until the server has no connection any more."""
        until(lambda: self.open_connections() == 0)

    def until_ended(self) -> None:
        """Wait until the loop has stopped by itself."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def forgive(self) -> str:
        """Return the errors that were logged, and forget them."""
        errors = "".join(self.errors)
        self.errors.clear()
        return errors

    def _note_error(self, message: str) -> None:
        self.errors.append(str(message))  # loguru's own kind keeps the traceback and its frames

    def _post(self, function: Callable[[], None]) -> None:
        self._calls.append(function)
        self._bell.send(b".")

    def _spawn(self, coroutine: Coroutine[Any, None, None], *, vital: bool = False) -> Task:
        # All must come to their end with their clients; what tells of the traffic may be due still.
        if coroutine.__qualname__ != Traffic._tell_soon.__qualname__:
            self._spawned.add(coroutine)
        return Loop.spawn(self.loop, coroutine, vital=vital)

    async def _answer_calls(self) -> None:
        while True:
            await readable(self._mailbox.fileno())
            self._mailbox.recv(1)
            self._calls.popleft()()

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as death:
            self._death = death


def descriptors() -> dict[int, str]:
    """Return the open ones of this process, and what each stands for."""
    open_ones: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            open_ones[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return open_ones
