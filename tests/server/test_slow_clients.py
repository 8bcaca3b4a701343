"""Clients that take too long, and those that are only slow. No test here measures time."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from httpd.exchange import Request, Response, Span
from httpd.protocol.head import Head, HeadLimits, take_head
from httpd.server import inbox
from httpd.server.connection import Handler
from httpd.server.transport import UNPROVEN_UNSENT
from httpd.traps import pause
from tests.daemons import until
from tests.served import Client, Served, listen_tcp, listen_unix, request
from tests.server.conftest import Serve

QUICK = [f"--{name}-timeout=0.2" for name in ("head", "body", "idle", "send")]
POST = request("/", "Content-Length: 100000", method="POST")


def test_a_new_connection_without_a_request_is_closed_without_a_word(
    serve: Serve, echo: Handler
) -> None:
    served = serve(echo, *QUICK)
    assert served.connect().read_to_end() == b""
    served.catch_up()
    assert served.lines == []


def test_an_idle_connection_is_closed_without_a_word(serve: Serve, echo: Handler) -> None:
    served = serve(echo, *QUICK, "--head-timeout=1000")
    client = served.connect()
    assert not client.ask(request()).closes
    assert client.read_to_end() == b""


def test_a_request_may_come_late_on_an_idle_connection(serve: Serve, echo: Handler) -> None:
    client = serve(echo, "--head-timeout=0.2").connect()
    client.ask(request())
    time.sleep(0.5)  # the time for a head begins with its first byte
    assert client.ask(request("/late")).content == b"GET /late "


@pytest.mark.parametrize(
    "sent",
    [b"G", b"\r\n", request()[:-2], POST, POST + b"x", POST.replace(b"0000", b"") + b"x"],
    ids=["method", "empty line", "head", "no content", "some content", "little content"],
)
def test_what_stays_unfinished_is_408(serve: Serve, echo: Handler, sent: bytes) -> None:
    served = serve(echo, *QUICK)
    client = served.connect()
    reply = client.ask(sent)
    assert (reply.status, reply.closes) == (408, True)
    client.half_close()
    assert client.read_to_end() == b""
    served.catch_up()
    assert '" 408 ' in served.lines[0] or '"-" 408 ' in served.lines[0]


def trickle(client: Client, data: bytes) -> None:
    """Send byte after byte, until it is answered."""
    for index in range(len(data)):
        client.send(data[index : index + 1])
        if select.select([client.socket], [], [], 0.01)[0]:
            return
    raise AssertionError("all of it was taken")


ENDLESS_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000
CHUNKED = request("/", "Transfer-Encoding: chunked", method="POST")


@pytest.mark.parametrize(
    ("lead", "slow"),
    [(b"", ENDLESS_HEAD), (POST, bytes(10_000)), (CHUNKED, b"1\r\nx\r\n" * 2_000)],
    ids=["head", "content", "chunks"],
)
def test_a_byte_now_and_then_is_too_slow(
    serve: Serve, echo: Handler, lead: bytes, slow: bytes
) -> None:
    # Never silent for as long as the timeouts, but far below the rate.
    client = serve(echo, *QUICK, "--min-rate=100K").connect()
    client.send(lead)
    trickle(client, slow)
    assert client.read_reply().status == 408


def test_without_a_rate_a_byte_now_and_then_is_enough(serve: Serve, echo: Handler) -> None:
    # All of it takes longer than the server bears silence, and no byte anywhere near as long.
    client = serve(echo, "--body-timeout=1.5", "--min-rate=0").connect()
    client.send(request("/", "Content-Length: 60", method="POST"))
    for _ in range(60):
        client.send(b"x")
        time.sleep(0.03)
    assert client.read_reply().content == b"POST / " + b"x" * 60


# Readers


class Download:
    """Answers with a part of a file, as large as the path says."""

    def __init__(self, path: Path) -> None:
        self.released = 0
        path.write_bytes(bytes(range(251)) * 100_000)
        self.file = path.open("rb")

    async def __call__(self, request: Request) -> Response:
        span = Span(self.file, 0, int(request.path[1:]))
        return Response(200, [], (span,), self.release)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(tmp_path / "file")


LISTENERS: dict[str, Callable[[Path], socket.socket]] = {
    "tcp": lambda _folder: listen_tcp(),
    "unix": lambda folder: listen_unix(folder / "socket"),
}
BOTH = pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS)


def until_given_up(served: Served, client: Client, read_size: int = 0) -> None:
    """Wait until the server has closed the connection, reading a little now and then."""

    def gone() -> bool:
        if read_size:
            client.socket.recv(read_size)
            time.sleep(0.01)
        return served.open_connections() == 0

    until(gone)


@BOTH
def test_a_reader_that_stops_is_given_up(
    serve: Serve, download: Download, tmp_path: Path, listen: Callable[[Path], socket.socket]
) -> None:
    served = serve(download, *QUICK, listener=listen(tmp_path))
    client = served.connect(receive_buffer=4096)
    client.send(request("/20000000"))
    client.read_lead()
    until_given_up(served, client)
    assert download.released == 1


def held_for(served: Served) -> int:
    """Return the bytes that the kernel holds for the one client, when it takes no more."""
    (connection,) = served.server.connections
    sizes: list[int] = []

    def settled() -> bool:
        time.sleep(0.02)
        sizes.append(served.call(connection._transport._unsent))
        return len(sizes) > 5 and sizes[-1] == sizes[-5] > 0

    until(settled)
    return sizes[-1]


@pytest.mark.parametrize(("read", "bounded"), [(0, True), (10_000_000, False)])
def test_the_kernel_holds_little_for_a_reader_that_has_proved_nothing(
    serve: Serve, download: Download, read: int, *, bounded: bool
) -> None:
    served = serve(download)
    client = served.connect(receive_buffer=4096)
    client.send(request("/20000000"))
    client.read_lead()
    client.read(read)
    assert (held_for(served) < 2 * UNPROVEN_UNSENT) is bounded


@BOTH
def test_a_reader_below_the_rate_is_given_up_whatever_it_read_before(
    serve: Serve, download: Download, tmp_path: Path, listen: Callable[[Path], socket.socket]
) -> None:
    flags = ["--send-timeout=0.2", "--min-rate=1M"]
    served = serve(download, *flags, listener=listen(tmp_path))
    client = served.connect(receive_buffer=16384)
    assert len(client.ask(request("/20000000")).content) == 20_000_000
    client.send(request("/20000000"))
    client.read_lead()
    until_given_up(served, client, read_size=4000)
    assert download.released == 2


@pytest.mark.parametrize(("family", "seconds"), [("tcp", 0.05), ("unix", 0.4)])
def test_a_reader_that_is_slow_but_steady_gets_everything(
    serve: Serve, download: Download, tmp_path: Path, family: str, seconds: float
) -> None:
    # The socket becomes writable again only when a good part of its buffer is free, and until then
    # this reader takes longer than it may be silent. What it has read counts in buffers of some
    # ten kilobytes at a unix socket, so that it needs more patience than TCP, which counts bytes.
    listener = LISTENERS[family](tmp_path)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
    flags = [f"--send-timeout={seconds}", "--min-rate=10K"]
    served = serve(download, *flags, listener=listener)
    client = served.connect(receive_buffer=4096)
    client.send(request("/350000"))
    status, fields = client.read_lead()
    received = b""
    while len(received) < 350_000:
        received += client.read(min(2_000, 350_000 - len(received)))
        time.sleep(0.01)
    assert received == (bytes(range(251)) * 1500)[:350_000]
    assert (status, fields["content-length"]) == (200, "350000")


# All of them together


def test_nobody_waits_for_the_slow_ones(serve: Serve, download: Download) -> None:
    async def both(request: Request) -> Response:
        if request.method == "POST":
            return Response(200, [], b"".join([piece async for piece in request.body]))
        return await download(request)

    served = serve(both)
    nuisances = [b"", b"GET / HT", POST, POST + b"x", CHUNKED + b"5\r\n", request("/20000000")]
    slow = [served.connect(receive_buffer=4096) for _ in nuisances]
    for client, nuisance in zip(slow, nuisances, strict=True):
        client.send(nuisance)
    good = served.connect()
    for _ in range(50):
        assert len(good.ask(request("/100000")).content) == 100_000
        assert good.ask(request("/", method="POST", content=b"quick")).content == b"quick"
    assert served.open_connections() == len(slow) + 1


def test_a_head_in_very_many_pieces_is_looked_at_more_rarely(
    serve: Serve, echo: Handler, gate: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look goes over all of what has come: byte by byte, that would be the CPU's time."""
    looks: list[int] = []

    def look(buffer: bytearray, limits: HeadLimits) -> Head | None:
        looks.append(len(buffer))
        return take_head(buffer, limits)

    async def until_opened(_deadline: float) -> None:
        while not gate.is_set():
            await pause(time.monotonic() + 0.001)

    monkeypatch.setattr(inbox, "take_head", look)
    monkeypatch.setattr(inbox, "pause", until_opened)
    client = serve(echo).connect()
    whole = request("/", f"A: {'a' * 1000}")
    for number in range(inbox.MOST_PIECES + 1):
        client.send(whole[number : number + 1])
        until(lambda seen=number: looks[seen:], "the piece is not looked at")
    for number in range(inbox.MOST_PIECES + 1, len(whole)):
        client.send(whole[number : number + 1])
    client.until_delivered()
    gate.set()
    assert client.read_reply().content == b"GET / "
    assert looks[: inbox.MOST_PIECES + 1] == list(range(1, inbox.MOST_PIECES + 2))
    assert looks[inbox.MOST_PIECES + 1 :] == [len(whole)]


def test_a_head_that_never_stops_coming_is_408(
    serve: Serve, echo: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MOST_PIECES", 2)  # more has come at the end of each pause
    client = serve(echo, "--head-timeout=0.2").connect()
    client.send(b"GET / HTTP/1.1\r\nA: ")

    def is_answered_meanwhile() -> bool:
        client.send(b"a")
        return bool(select.select([client.socket], [], [], 0)[0])

    until(is_answered_meanwhile, "the time for a head is without an end")
    assert client.read_reply().status == 408
