"""A line for each request, written in one batch a turn of the loop."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from httpd import log

if TYPE_CHECKING:
    from httpd.exchange import Fields
    from httpd.protocol.head import Head
    from httpd.server.clock import Clock

# What the log says of a client that has left before its answer, as nginx's does; never sent.
GONE = 499
# What may not stand in a quoted part of a line: a client could forge lines and fields with it, or
# drive the terminal that shows them.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100), 0x22, 0x5C)}


class AccessLog:
    """Collects lines in one of the formats of --access-log.

    `combined` has the seconds that a request took and its id at the end; `json` is an object a
    line.
    """

    def __init__(self, clock: Clock, style: str = "combined") -> None:
        """Take the clock that stamps the lines, and the format, or `none`."""
        self._clock = clock
        self._lines: list[str] = []
        self._wanted = log.access_wanted() and style != "none"
        self._as_json = style == "json"

    def describe(self, head: Head | None, status: int, size: int) -> str:
        """Return what a line says of a request and its answer, the same whoever asks and when.

        `head` is None where none could be read, `size` in bytes without the response's head.
        """
        if not self._wanted:
            return ""
        return _as_json(head, status, size) if self._as_json else _combined(head, status, size)

    def add(self, peer: str, described: str, seconds: float, request_id: str) -> None:
        """Add a line for what `describe` has described."""
        if not self._wanted:
            return
        if self._as_json:
            self._lines.append(
                f'{{"time": "{self._clock.iso}", "peer": "{peer}", {described}, '
                f'"seconds": {seconds:.6f}, "request_id": "{request_id}"}}\n'
            )
        else:
            self._lines.append(
                f"{peer} - - [{self._clock.stamp}] {described} {seconds:.6f} {request_id}\n"
            )

    def flush(self) -> None:
        """Write what has been noted; a line a call would cost more than a small request does."""
        if self._lines:
            log.access("".join(self._lines))
            self._lines.clear()


def _combined(head: Head | None, status: int, size: int) -> str:
    if head is None:
        return f'"-" {status} {size} "-" "-"'
    request = f"{head.method} {head.target} {_version(head)}".translate(_ESCAPES)
    return f'"{request}" {status} {size} {head.fields.once(_sender)}'


def _sender(fields: Fields) -> str:
    referer = (fields.get("referer") or "-").translate(_ESCAPES)
    agent = (fields.get("user-agent") or "-").translate(_ESCAPES)
    return f'"{referer}" "{agent}"'


def _as_json(head: Head | None, status: int, size: int) -> str:
    """Return the members in the middle of a line's object, null where nothing was read."""
    known = {
        "method": head and head.method,
        "target": head and head.target,
        "protocol": head and _version(head),
        "status": status,
        "bytes": size,
        "referer": head and head.fields.get("referer"),
        "agent": head and head.fields.get("user-agent"),
    }
    return json.dumps(known)[1:-1]


def _version(head: Head) -> str:
    major, minor = head.version
    return f"HTTP/{major}.{minor}"
