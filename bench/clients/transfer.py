"""Big transfers that cost their client next to nothing, so that it is the server that is measured.

What is sent comes by sendfile(2) from the page cache; what is received is dropped in the kernel
(MSG_TRUNC, tcp(7)).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from socket import MSG_TRUNC
from typing import TypeVar

from bench.clients.wrk import Failed

T = TypeVar("T")

PATIENCE = 60.0  # seconds without a byte
PIECE = 1 << 20
STEP = 256 * 1024  # what is sent at once at a pace


def connect(port: int) -> socket.socket:
    """Return a connection to a server here."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def send(
    port: int, method: str, target: str, file: Path, *, lead: bytes = b"",
    pace: float | None = None, goes_on: Callable[[], bool] = lambda: True,
) -> bytes:  # fmt: skip
    """Upload `lead` and a file behind it; return the content of the answer. Raises Failed, OSError.

    At a `pace` of so many bytes a second, and only while it `goes_on`, which is asked each STEP;
    then the upload is broken off and b"" returned.
    """
    size = len(lead) + file.stat().st_size
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
    with connect(port) as client, file.open("rb") as source:
        client.sendall(head.encode() + lead)
        if pace is None:
            client.sendfile(source)
        else:
            begun = time.monotonic()
            while sent := client.sendfile(source, source.tell(), STEP):
                del sent
                if not goes_on():
                    return b""
                time.sleep(max(0.0, begun + source.tell() / pace - time.monotonic()))
        response = HTTPResponse(client, method=method)
        response.begin()
        answer = response.read()
        if response.status >= 300:
            raise Failed(f"an upload was answered {response.status}: {answer[:200]!r}")
        return answer


def fetch(port: int, target: str) -> int:
    """Download a file and drop it; return its size in bytes. Raises Failed, OSError."""
    with connect(port) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(client.recv(PIECE))
        head, _, content = received.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").lower().split("\r\n")
        lengths = [line.partition(":")[2] for line in fields if line.startswith("content-length:")]
        if status.split()[1] != "200" or len(lengths) != 1:
            raise Failed(f"a download was answered: {status}")
        size = int(lengths[0])
        left, scrap = size - len(content), bytearray(PIECE)
        while left:
            left -= _some(client.recv_into(scrap, min(left, PIECE), MSG_TRUNC))
        return size


def _some(data: T) -> T:
    if not data:
        raise Failed("a download was cut off")
    return data
