"""How the master tells whoever started it that it serves, or why it does not."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from select import select
from typing import Protocol

READY = "ready"
GOES_ON = b"\0"  # before the answer: it takes its time, and is not stuck
LONGEST = 4096  # bytes of an answer: at most PIPE_BUF, so that it comes in one piece (pipe(7))


class NotReady(Exception):
    """The daemon does not serve; the message is its reason."""


class Readiness(Protocol):
    """What the master holds until it has told one of the two."""

    def goes_on(self) -> None:
        """Tell that the start takes its time, and is not stuck."""

    def ready(self) -> None:
        """Tell that every worker serves."""

    def failed(self, reason: str) -> None:
        """Tell why there is no daemon."""

    def close(self) -> None:
        """Tell nothing, in a process that does not speak for the daemon."""


class Pipe:
    """Tells the launcher, over the write end of a pipe on which it waits with `wait`."""

    def __init__(self, descriptor: int) -> None:
        """Take over the write end."""
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor, which must survive the way into the background."""
        return self._descriptor

    def goes_on(self) -> None:
        """Have the launcher wait on, from this moment."""
        if self._descriptor >= 0:
            with suppress(BrokenPipeError):
                os.write(self._descriptor, GOES_ON)

    def ready(self) -> None:
        """Tell that every worker serves, and let the launcher go."""
        self._tell(f"{READY} {os.getpid()}")

    def failed(self, reason: str) -> None:
        """Tell why there is no daemon, unless the launcher has its answer already."""
        self._tell(reason)

    def close(self) -> None:
        """Close this process's copy."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _tell(self, answer: str) -> None:
        if self._descriptor >= 0:
            # A launcher that was interrupted has no ears; the daemon serves all the same.
            with suppress(BrokenPipeError):
                os.write(self._descriptor, answer.encode()[:LONGEST])
            self.close()


def wait(descriptor: int, timeout: float) -> int:
    """Wait for the answer on a pipe's read end; return the master's pid.

    Raises NotReady, also when the daemon has died without a word or says nothing for `timeout`
    seconds, not even that it goes on.
    """
    deadline = time.monotonic() + timeout
    answer = b""
    while select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, LONGEST)
        if not piece:
            break
        if piece.startswith(GOES_ON):
            deadline = time.monotonic() + timeout
        answer += piece.replace(GOES_ON, b"")
    else:
        raise NotReady(f"no answer within {timeout:.0f} s")
    word, _, pid = answer.decode(errors="replace").partition(" ")
    if word == READY:
        return int(pid)
    raise NotReady(answer.decode(errors="replace") or "it died while it was starting")
