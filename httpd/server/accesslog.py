"""A line for each request, written in one batch a turn of the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpd import log

if TYPE_CHECKING:
    from httpd.protocol.head import Head
    from httpd.server.clock import Clock

# What may not stand in a quoted part of a line: a client could forge lines and fields with it, or
# drive the terminal that shows them.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100), 0x22, 0x5C)}


class AccessLog:
    """Collects lines in the combined format, with the seconds a request took at the end."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock that stamps the lines."""
        self._clock = clock
        self._lines: list[str] = []
        self._wanted = log.access_wanted()

    def note(self, peer: str, head: Head | None, status: int, size: int, seconds: float) -> None:
        """Add a line; `head` is None where none could be read, `size` in bytes without the head."""
        if self._wanted:
            self.add(peer, describe(head, status, size), seconds)

    def add(self, peer: str, described: str, seconds: float) -> None:
        """Add a line for what `describe` has described."""
        if self._wanted:
            self._lines.append(f"{peer} - - [{self._clock.stamp}] {described} {seconds:.6f}\n")

    def flush(self) -> None:
        """Write what has been noted; a line a call would cost more than a small request does."""
        if self._lines:
            log.access("".join(self._lines))
            self._lines.clear()


def describe(head: Head | None, status: int, size: int) -> str:
    """Return what a line says of a request and its answer, the same whoever asks and when."""
    if head is None:
        return f'"-" {status} {size} "-" "-"'
    major, minor = head.version
    request = f"{head.method} {head.target} HTTP/{major}.{minor}".translate(_ESCAPES)
    referer = (head.fields.get("referer") or "-").translate(_ESCAPES)
    agent = (head.fields.get("user-agent") or "-").translate(_ESCAPES)
    return f'"{request}" {status} {size} "{referer}" "{agent}"'
