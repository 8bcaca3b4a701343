"""Bytes to a daemon exactly as they are, and what it answers."""

from __future__ import annotations

import re
from socket import SHUT_WR, socket
from typing import NamedTuple

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [ -~]+")


class Answer(NamedTuple):
    """One response, taken apart."""

    status: int
    fields: dict[str, str]  # names in lower case
    content: bytes


def answer_in(received: bytes) -> Answer:
    """Take one response apart, and fail if it is not exactly that."""
    head, end, content = received.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    match = STATUS_LINE.fullmatch(line)
    assert match, received
    assert end, received
    pairs = [each.decode("ascii").split(": ", 1) for each in lines]
    fields = {name.lower(): value for name, value in pairs}
    assert len(fields) == len(pairs), f"a field is there twice: {lines}"
    return Answer(int(match[1]), fields, content)


def answers_in(received: bytes) -> list[Answer]:
    """Take the final responses of a connection apart; fail where anything else is in between."""
    answers = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        answer = answer_in(head + end)
        length = int(answer.fields.get("content-length", 0))
        assert len(rest) >= length, f"cut off: {received!r}"
        content, received = rest[:length], rest[length:]
        if answer.status >= 200:
            answers.append(answer._replace(content=content))
    return answers


def receive_all(client: socket) -> bytes:
    """Receive until the other side has closed."""
    pieces = []
    while piece := client.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def ask(client: socket, request: bytes) -> Answer:
    """Send bytes, end the sending, and return the one answer to them."""
    with client:
        client.sendall(request)
        client.shutdown(SHUT_WR)
        answer = answer_in(receive_all(client))
    assert len(answer.content) == int(answer.fields["content-length"])
    return answer


def head(line: str, *fields: str, host: str = "Host: test") -> bytes:
    """Return the head of a request."""
    lines = [f"{line} HTTP/1.1", *([host] if host else []), *fields]
    return "".join(f"{each}\r\n" for each in [*lines, ""]).encode("latin-1")


def post(content: bytes, *fields: str, target: str = "/") -> bytes:
    """Return an upload of declared length."""
    return head(f"POST {target}", f"Content-Length: {len(content)}", *fields) + content


def chunked(content: bytes, *fields: str, size: int = 5) -> bytes:
    """Return an upload in chunks of `size` bytes."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("POST /", "Transfer-Encoding: chunked", *fields) + chunks + b"0\r\n\r\n"


BOUNDARY = "frontier"
FILE = 'name="file"; filename="a.txt"'  # begins a file in a form


def part(disposition: str, content: bytes) -> bytes:
    """Return one part of a form: its boundary, its head, its content."""
    field = f"Content-Disposition: form-data; {disposition}".encode()
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), field, content)


def form(*parts: bytes, closing: bytes = b"--frontier--\r\n") -> bytes:
    """Return an upload of a form."""
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    return post(b"".join(parts) + closing, kind)
