"""A request's content: asked for, read, skipped, refused, cut off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from threading import Event

import pytest

from httpd.exchange import Disconnected, Refusal, Request, Response
from httpd.server.body import DIRECT
from httpd.server.connection import SKIP_BYTES, Handler
from httpd.traps import in_pool
from tests.daemons import PATIENCE, until
from tests.served import Client, request
from tests.server.conftest import Serve

EXPECTING = request("/", "Expect: 100-continue", "Content-Length: 4", method="POST")
CHUNKED = request("/", "Transfer-Encoding: chunked", method="POST")


def post(length: int, *fields: str) -> bytes:
    return request("/", f"Content-Length: {length}", *fields, method="POST")


class Witness:
    """Reads the content, and tells what became of it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.error: type[BaseException] | None = None
        self.cleaned_up = 0

    async def __call__(self, request: Request) -> Response:
        try:
            async for piece in request.body:
                self.pieces.append(piece)
        except (Refusal, Disconnected) as error:
            self.error = type(error)
            raise
        finally:
            self.cleaned_up += 1
        return Response(200, [], b"read")


@pytest.fixture
def witness() -> Witness:
    return Witness()


# 100 Continue (RFC 9110 section 10.1.1)


def test_the_content_is_asked_for_once_when_the_handler_reads_it(
    serve: Serve, echo: Handler
) -> None:
    served = serve(echo)
    client = served.connect()
    client.send(EXPECTING)
    assert client.read_lead() == (100, {})
    client.send(b"fo")
    served.catch_up()
    assert client.ask(b"ur").content == b"POST / four"
    assert client.ask(request("/next")).content == b"GET /next "


@pytest.mark.parametrize("there", [b"f", b"four"])
def test_content_that_is_on_its_way_is_not_asked_for(
    serve: Serve, echo: Handler, there: bytes
) -> None:
    served = serve(echo)
    client = served.connect()
    client.send(EXPECTING + there)
    served.catch_up()
    reply = client.ask(b"four".removeprefix(there))
    assert (reply.status, reply.content, reply.closes) == (200, b"POST / four", False)


def test_content_that_is_on_its_way_is_skipped_as_any_other(serve: Serve, deaf: Handler) -> None:
    client = serve(deaf).connect()
    assert not client.ask(EXPECTING + b"f").closes
    assert client.ask(b"our" + request()).content == b"unheard"


def test_an_answer_without_the_content_that_is_held_back_closes(
    serve: Serve, deaf: Handler
) -> None:
    client = serve(deaf).connect()
    reply = client.ask(EXPECTING)
    assert (reply.status, reply.closes) == (200, True)
    assert client.read_to_end() == b""


def test_a_handler_knows_of_the_expectation_and_the_length(serve: Serve) -> None:
    async def tell(request: Request) -> Response:
        return Response(200, [], f"{request.expects_continue} {request.body.length}".encode())

    served = serve(tell)
    assert served.ask(EXPECTING).content == b"True 4"
    assert served.ask(post(2) + b"ab").content == b"False 2"
    assert served.ask(CHUNKED).content == b"False None"
    assert served.ask(request()).content == b"False 0"


# Content that the handler does not read


@pytest.mark.parametrize("sent", [0, 1, SKIP_BYTES])
def test_a_little_content_is_skipped_to_keep_the_connection(
    serve: Serve, deaf: Handler, sent: int
) -> None:
    client = serve(deaf).connect()
    client.send(post(SKIP_BYTES) + bytes(sent))
    assert not client.read_reply().closes
    client.send(bytes(SKIP_BYTES - sent) + request())
    assert client.read_reply().content == b"unheard"


@pytest.mark.parametrize("lead", [post(SKIP_BYTES + 1), CHUNKED])
def test_much_content_or_an_unknown_length_of_it_ends_the_connection(
    serve: Serve, deaf: Handler, lead: bytes
) -> None:
    client = serve(deaf).connect()
    reply = client.ask(lead)
    assert (reply.content, reply.closes) == (b"unheard", True)
    assert client.read_to_end() == b""


@pytest.mark.parametrize("ending", [Client.half_close, Client.abort])
def test_a_client_may_go_while_its_content_is_skipped(
    serve: Serve, deaf: Handler, ending: Callable[[Client], None]
) -> None:
    served = serve(deaf)
    client = served.connect()
    assert not client.ask(post(100) + b"some").closes
    ending(client)
    served.until_alone()
    assert len(served.lines) == 1


def test_a_client_that_sends_much_before_it_reads_gets_the_whole_answer(serve: Serve) -> None:
    async def refuse(_request: Request) -> Response:
        raise Refusal(413, "x" * (1 << 20))

    client = serve(refuse).connect()
    client.send(post(20 << 20) + bytes(20 << 20))
    reply = client.read_reply()
    assert (reply.status, len(reply.content)) == (413, (1 << 20) + 1)
    assert client.read_to_end() == b""


def test_what_follows_the_last_request_does_not_cost_the_client_its_response(
    serve: Serve,
) -> None:
    async def large(_request: Request) -> Response:
        return Response(200, [], bytes(2 << 20))

    # Closing with something unread would reset the connection, and drop what is not sent yet.
    client = serve(large).connect(receive_buffer=4096)
    client.send(request("/", "Connection: close") + request("/more") * 1000)
    assert len(client.read_reply().content) == 2 << 20
    assert client.read_to_end() == b""


# Too large


@pytest.mark.parametrize(
    "sent",
    [
        post(1001),
        CHUNKED + b"3e8\r\n" + bytes(1000) + b"\r\n1\r\nx\r\n0\r\n\r\n",
        CHUNKED + b"fff\r\n" + bytes(0xFFF),
    ],
)
def test_content_over_the_limit_is_413(serve: Serve, witness: Witness, sent: bytes) -> None:
    client = serve(witness, "--max-body=1000").connect()
    assert client.ask(sent).status == 413
    assert witness.error is Refusal
    assert sum(map(len, witness.pieces)) <= 1000


@pytest.mark.parametrize(
    "sent", [post(1000) + bytes(1000), CHUNKED + b"3e8\r\n" + bytes(1000) + b"\r\n0\r\n\r\n"]
)
def test_content_of_just_the_limit_is_taken(serve: Serve, echo: Handler, sent: bytes) -> None:
    assert len(serve(echo, "--max-body=1000").ask(sent).content) == 7 + 1000


def test_content_over_the_limit_is_skipped_as_any_other(serve: Serve, deaf: Handler) -> None:
    client = serve(deaf, "--max-body=1000").connect()
    assert not client.ask(post(1001)).closes
    assert client.ask(bytes(1001) + request()).content == b"unheard"


# Cut off


def half_closed(client: Client) -> None:
    client.half_close()
    assert client.read_reply().status == 400


@pytest.mark.parametrize("lead", [post(1000), CHUNKED + b"3e8\r\n"])
@pytest.mark.parametrize(
    ("ending", "error"), [(half_closed, Refusal), (Client.abort, Disconnected)]
)
def test_a_handler_sees_that_its_content_is_cut_off(
    serve: Serve,
    witness: Witness,
    lead: bytes,
    ending: Callable[[Client], None],
    error: type[BaseException],
) -> None:
    served = serve(witness)
    client = served.connect()
    client.send(lead + b"begun")
    until(lambda: witness.pieces)
    ending(client)
    until(lambda: witness.cleaned_up)
    assert witness.error is error
    assert witness.pieces == [b"begun"]
    served.until_alone()
    assert served.errors == []


@pytest.mark.parametrize("sent", [CHUNKED + b"none\r\n", post(5) + b"four"])
def test_a_handler_that_answers_in_spite_of_broken_content_ends_the_connection(
    serve: Serve, sent: bytes
) -> None:
    async def stubborn(request: Request) -> Response:
        try:
            async for _ in request.body:
                pass
        except Refusal:
            pass
        return Response(200, [], b"so what")

    client = serve(stubborn).connect()
    client.send(sent)
    client.half_close()
    reply = client.read_reply()
    assert (reply.content, reply.closes) == (b"so what", True)
    assert client.read_to_end() == b""


def send_what_goes(client: Client, size: int) -> int:
    """Send up to `size` bytes without waiting, and return how many went."""
    client.socket.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while sent < size:
            sent += client.socket.send(bytes(min(1 << 20, size - sent)))
    return sent


def test_content_that_nobody_reads_yet_stays_with_the_client(serve: Serve, gate: Event) -> None:
    async def late(request: Request) -> Response:
        await in_pool(gate.wait, PATIENCE)
        return Response(200, [], b"%d" % sum([len(piece) async for piece in request.body]))

    size = 32 << 20  # more than the buffers of both ends hold
    client = serve(late).connect()
    client.send(post(size))
    sent = send_what_goes(client, size)
    assert sent < size
    gate.set()
    client.socket.settimeout(PATIENCE)
    client.send(bytes(size - sent))
    assert client.read_reply().content == b"%d" % size


# Content that is received into a buffer


class Filler:
    """Reads the content into one buffer, again and again, and keeps copies."""

    def __init__(self, size: int) -> None:
        self.buffer = memoryview(bytearray(size))
        self.pieces: list[bytes] = []
        self.error: type[BaseException] | None = None

    async def __call__(self, request: Request) -> Response:
        try:
            while size := await request.body.readinto(self.buffer):
                self.pieces.append(bytes(self.buffer[:size]))
            assert await request.body.readinto(self.buffer) == 0
        except (Refusal, Disconnected) as error:
            self.error = type(error)
            raise
        return Response(200, [], b"read")


LONG = Random(1).randbytes(300_000)


def in_chunks(content: bytes, size: int) -> bytes:
    chunks = [content[place : place + size] for place in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


@pytest.mark.parametrize("buffer", [1000, DIRECT, 100_000, 1 << 20])
@pytest.mark.parametrize(
    "sent",
    [
        post(len(LONG)) + LONG,
        CHUNKED + in_chunks(LONG, 7000),  # received with its framing, then copied
        CHUNKED + in_chunks(LONG, 64 * 1024),
        CHUNKED + in_chunks(LONG, len(LONG)),
    ],
    ids=["length", "small chunks", "chunks", "one chunk"],
)
def test_content_goes_into_a_buffer_of_any_size(serve: Serve, sent: bytes, buffer: int) -> None:
    filler = Filler(buffer)
    served = serve(filler)
    client = served.connect()
    assert client.ask(sent).content == b"read"
    assert b"".join(filler.pieces) == LONG
    assert client.ask(request()).content == b"read"  # what follows is a request of its own
    assert b"".join(filler.pieces) == LONG


@pytest.mark.parametrize(
    "sent",
    [post(1001), CHUNKED + in_chunks(bytes(1001), 1001), CHUNKED + in_chunks(bytes(1001), 10)],
)
def test_content_over_the_limit_is_413_in_a_buffer_too(serve: Serve, sent: bytes) -> None:
    filler = Filler(10)
    assert serve(filler, "--max-body=1000").connect().ask(sent).status == 413
    assert filler.error is Refusal
    assert sum(map(len, filler.pieces)) <= 1000


@pytest.mark.parametrize("lead", [post(100_000), CHUNKED + b"186a0\r\n"])
@pytest.mark.parametrize(
    ("ending", "error"), [(half_closed, Refusal), (Client.abort, Disconnected)]
)
def test_content_that_is_cut_off_is_no_end_of_it(
    serve: Serve,
    lead: bytes,
    ending: Callable[[Client], None],
    error: type[BaseException],
) -> None:
    filler = Filler(50_000)
    client = serve(filler).connect()
    client.send(lead + LONG[:60_000])
    until(lambda: sum(map(len, filler.pieces)) == 60_000)
    ending(client)
    until(lambda: filler.error)
    assert filler.error is error


def test_content_that_comes_too_slowly_for_a_buffer_is_408(serve: Serve) -> None:
    filler = Filler(50_000)
    client = serve(filler, "--body-timeout=0.2").connect()
    reply = client.ask(post(100_000) + LONG[:60_000])
    assert (reply.status, reply.closes) == (408, True)
    assert b"".join(filler.pieces) == LONG[:60_000]


def test_content_for_a_buffer_is_asked_for(serve: Serve) -> None:
    filler = Filler(3)
    client = serve(filler).connect()
    client.send(EXPECTING)
    assert client.read_lead() == (100, {})
    assert client.ask(b"four").content == b"read"
    assert b"".join(filler.pieces) == b"four"
