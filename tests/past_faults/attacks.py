"""Bytes that once went wrong at another server, and what has to come of them here."""

from __future__ import annotations

import hashlib
import socket
from typing import NamedTuple

from tests import raw
from tests.daemons import Daemon

VICTIM = b"what the hidden request would delete"
DIGEST = hashlib.md5(VICTIM).hexdigest()
# What an attack tries to get past a proxy: nobody but its sender would ask for it.
HIDDEN = raw.head(f"DELETE /?file_hash={DIGEST}")

CODING = "Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


class Attack(NamedTuple):
    """One attack."""

    advisory: str  # where it is told of, and the name of the attack
    fault: str  # what went wrong there
    sent: bytes
    statuses: list[int]  # of the answers, all there are

    @property
    def name(self) -> str:
        """What to call it in a list."""
        return self.advisory.replace(" ", "-")


def chunked(body: bytes, *fields: str) -> bytes:
    """Return an upload with that for its chunks, whatever it is."""
    return raw.head("POST /", *fields, CODING) + body


def sized(content: bytes, *fields: str, line: str = "POST /") -> bytes:
    """Return a request with those fields, whatever they say of its content."""
    return raw.head(line, *fields) + content


def length(content: bytes = HIDDEN) -> str:
    """Return the right Content-Length for it."""
    return f"Content-Length: {len(content)}"


def answers(daemon: Daemon, sent: bytes) -> list[raw.Answer]:
    """Send it all, end the sending, and return what is answered."""
    with daemon.connect() as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return raw.answers_in(raw.receive_all(client))
