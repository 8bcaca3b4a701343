"""A response on its way: bytes and parts of files, broken off and released."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import current_thread
from typing import BinaryIO

import pytest

from httpd.exchange import Request, Response, Span
from httpd.server import transport
from httpd.server.pagecache import fill
from httpd.server.transport import SENDFILE_TURN
from tests.served import Client, Served, listen_unix, request
from tests.server.conftest import Serve

SIZE = 3 << 20  # several turns of sendfile


@pytest.fixture
def file(tmp_path: Path) -> BinaryIO:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path.open("rb")


class Answer:
    """Answers everything with the same content, and counts how often it is released."""

    def __init__(self, content: bytes | tuple[bytes | Span, ...] = b"", **fields: str) -> None:
        self.content = content
        self.fields = list(fields.items())
        self.released = 0

    async def __call__(self, _request: Request) -> Response:
        return Response(200, self.fields, self.content, self.release)

    def release(self) -> None:
        self.released += 1


CONTENTS: dict[str, Callable[[BinaryIO], bytes | tuple[bytes | Span, ...]]] = {
    "nothing": lambda file: b"",
    "bytes": lambda file: bytes(SIZE),
    "no part": lambda file: (),
    "an empty part": lambda file: (Span(file, 0, 0),),
    "a file": lambda file: (Span(file, 0, SIZE),),
    "a part of a file": lambda file: (Span(file, 12345, SIZE - 20000),),
    "a byte of a file": lambda file: (Span(file, SIZE - 1, 1),),
    "several parts": lambda file: (
        b"first",
        Span(file, 1 << 20, 2 << 20),
        b"between",
        Span(file, 7, 1 << 20),
        b"",
        b"last",
    ),
}


def whole(content: bytes | tuple[bytes | Span, ...]) -> bytes:
    if isinstance(content, bytes):
        return content
    return b"".join(
        part
        if isinstance(part, bytes)
        else os.pread(part.source.fileno(), part.length, part.offset)
        for part in content
    )


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_content_of_every_shape_arrives_whole_and_is_released_once(
    serve: Serve,
    file: BinaryIO,
    tmp_path: Path,
    family: str,
    content: Callable[[BinaryIO], bytes | tuple[bytes | Span, ...]],
) -> None:
    with file:
        answer = Answer(content(file))
        listener = listen_unix(tmp_path / "socket") if family == "unix" else None
        served = serve(answer, listener=listener)
        client = served.connect(receive_buffer=65536)
        expected = whole(answer.content)
        for count in (1, 2):  # and the connection serves on
            assert client.ask(request()).content == expected
            served.catch_up()
            assert answer.released == count
            assert f'" 200 {len(expected)} "' in served.lines[-1]


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_is_not_in_memory_is_fetched_off_the_loop(
    serve: Serve,
    file: BinaryIO,
    monkeypatch: pytest.MonkeyPatch,
    content: Callable[[BinaryIO], bytes | tuple[bytes | Span, ...]],
) -> None:
    fetched: list[tuple[int, int]] = []

    def fetch(descriptor: int, offset: int, count: int) -> None:
        assert current_thread().name.startswith("pool")
        assert count <= SENDFILE_TURN
        fill(descriptor, offset, count)
        fetched.append((offset, offset + count))

    monkeypatch.setattr(transport, "holds", lambda *_: False)
    monkeypatch.setattr(transport, "fill", fetch)
    with file:
        answer = Answer(content(file))
        expected = whole(answer.content)
        served = serve(answer)
        assert served.ask(request()).content == expected
        served.catch_up()
        parts = [part for part in answer.content if isinstance(part, Span) and part.length]
        assert {part.offset for part in parts} <= {begin for begin, _ in fetched}
        assert {part.offset + part.length for part in parts} <= {end for _, end in fetched}
        assert sum(part.length for part in parts) <= sum(end - begin for begin, end in fetched)


def test_what_cannot_be_fetched_breaks_the_connection_off(
    serve: Serve, file: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(transport, "holds", lambda *_: False)
    monkeypatch.setattr(transport, "fill", fail)
    with file:
        answer = Answer((Span(file, 0, SIZE),))
        served = serve(answer)
        client = served.connect()
        client.send(request())
        assert client.read_lead()[0] == 200
        assert client.read_to_end() == b""
        served.until_alone()
        assert answer.released == 1
        assert "Input/output error" in served.forgive()


def test_the_head_alone_is_sent_for_head_and_the_content_released(
    serve: Serve, file: BinaryIO
) -> None:
    with file:
        answer = Answer((Span(file, 0, SIZE),))
        served = serve(answer)
        client = served.connect()
        reply = client.ask(request(method="HEAD"), "HEAD")
        assert reply.fields["content-length"] == str(SIZE)
        served.catch_up()
        assert answer.released == 1


def test_a_304_tells_no_length(serve: Serve) -> None:
    async def unchanged(_request: Request) -> Response:
        return Response(304, [("ETag", '"a"')])

    client = serve(unchanged).connect()
    for _ in range(2):
        reply = client.ask(request())
        assert (reply.status, "content-length" in reply.fields) == (304, False)


def vanish(client: Client) -> None:
    client.read(1000)
    client.abort()


@pytest.mark.parametrize("leave", [vanish, Client.abort, Client.close])
@pytest.mark.parametrize("shape", ["bytes", "a file", "several parts"])
def test_a_client_that_goes_in_the_middle_is_given_up(
    serve: Serve, file: BinaryIO, shape: str, leave: Callable[[Client], None]
) -> None:
    with file:
        answer = Answer(CONTENTS[shape](file))
        served = serve(answer)
        client = served.connect(receive_buffer=4096)
        client.send(request() * 4)  # more than the buffers hold
        client.read_lead()
        leave(client)
        served.until_alone()
        assert answer.released == len(served.lines) > 0
        assert served.errors == []


def test_a_client_that_closed_its_side_gets_the_rest(serve: Serve, file: BinaryIO) -> None:
    with file:
        client = serve(Answer((Span(file, 0, SIZE),))).connect(receive_buffer=4096)
        client.send(request())
        client.half_close()
        assert client.read_reply().content == os.pread(file.fileno(), SIZE, 0)
        assert client.read_to_end() == b""


def test_a_file_that_becomes_shorter_breaks_the_connection_off(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    content = bytes(range(251)) * (1 << 16)
    path.write_bytes(content)
    rest = len(content) // 2  # more than the buffers hold
    with path.open("r+b") as file:
        answer = Answer((Span(file, 0, len(content)), b"behind"))
        served = serve(answer)
        client = served.connect(receive_buffer=4096)
        client.send(request())
        client.read_lead()
        file.truncate(rest)
        received = client.read_what_comes()
        served.until_alone()
        assert len(received) < len(content)
        assert received == content[: len(received)]
        assert answer.released == 1
        assert "shorter" in served.forgive()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_PATH])
def test_a_file_that_cannot_be_read_breaks_the_connection_off(
    serve: Serve, tmp_path: Path, flags: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    descriptor = os.open(tmp_path / "file", flags)

    class Unreadable:
        def fileno(self) -> int:
            return descriptor

    answer = Answer((Span(Unreadable(), 0, 100),))
    served = serve(answer)
    client = served.connect()
    client.send(request())
    assert client.read_lead()[0] == 200
    assert client.read_to_end() == b""
    os.close(descriptor)
    assert "cannot be read on" in served.forgive()
    assert answer.released == 1


def test_a_response_that_cannot_be_rendered_is_never_sent(serve: Serve) -> None:
    answer = Answer(b"content", Location="/\r\nSet-Cookie: forged")
    served: Served = serve(answer)
    client = served.connect()
    client.send(request())
    assert client.read_to_end() == b""
    served.until_alone()
    assert answer.released == 1
    assert "ValueError" in served.forgive()
