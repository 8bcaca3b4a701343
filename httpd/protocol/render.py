"""Responses as bytes: heads, dates, error contents (RFC 9110, RFC 9112 section 4, RFC 9457)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from httpd.protocol.accept import prefers
from httpd.protocol.grammar import (
    CRLF,
    FIELD_NAME,
    FIELD_TEXT,
    HTTP_DATES,
    MONTHS,
    UNSAFE_IN_TEXT,
)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# The phrases of RFC 9110, which HTTPStatus has only from Python 3.13 on.
_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable"}
REASONS = {status.value: status.phrase for status in HTTPStatus} | _RENAMED

PLAIN = "text/plain; charset=utf-8"
PROBLEM = "application/problem+json"
_PROBLEM_OFFERS = ("text/plain", PROBLEM, "application/json")

# A two-digit year more than this far ahead is of the century before (RFC 9110 5.6.7).
_YEARS_AHEAD = 50


def render_head(status: int, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the status line, the field lines and the empty line.

    `status` is a registered code. Raises ValueError if a name is no token or a value has a control
    character or is not Latin-1 (RFC 9110 5.1 and 5.5): none can add a field or end the head.
    """
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, REASONS[status].encode(), render_fields(fields))


def render_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return field lines, each with its CRLF; raises ValueError as `render_head` does."""
    lines = [f"{_checked(name)}: {value}\r\n" for name, value in fields]
    block = "".join(lines).encode("latin-1")
    # Without its text there are the lines' own ends and nothing else. All at once and by translate,
    # which takes a fraction of the time of a pattern.
    if block.translate(None, FIELD_TEXT) != CRLF * len(lines):
        raise ValueError("the value of a response field is malformed")
    return block


@lru_cache  # the server has a few dozen names, and all of them are in its source
def _checked(name: str) -> str:
    if FIELD_NAME.fullmatch(name) is None:
        raise ValueError(f"no name of a response field: {name!r}")
    return name


def problem(
    status: int, reason: str, accept: str | None, request_id: str = ""
) -> tuple[str, bytes]:
    """Return the content type and content that tell a person or a program what went wrong.

    One line of text, or a problem object (RFC 9457) where `accept`, the Accept field, prefers JSON;
    `request_id` is what the log knows the request by, for the object's member of that name. What
    may come from the client in `reason` is escaped: it stays one line, and a terminal that shows it
    is not driven by it.
    """
    reason = UNSAFE_IN_TEXT.sub(_escape, reason)
    if prefers(accept, _PROBLEM_OFFERS) == "text/plain":
        return PLAIN, f"{reason}\n".encode()
    # With "about:blank" the title is the status code's own phrase (RFC 9457 4.2.1).
    members = {"type": "about:blank", "title": REASONS[status], "status": status, "detail": reason}
    if request_id:
        members["request_id"] = request_id
    return PROBLEM, json.dumps(members).encode() + b"\n"


def _escape(character: re.Match[str]) -> str:
    return f"\\u{ord(character[0]):04x}"


def http_date(timestamp: float) -> str:
    """Return seconds since the epoch as an IMF-fixdate, without the fraction (RFC 9110 5.6.7)."""
    return formatdate(int(timestamp), usegmt=True)


def parse_http_date(text: str) -> float | None:
    """Return a date in any of the three formats as seconds since the epoch; None if malformed."""
    match = next((m for pattern in HTTP_DATES if (m := pattern.fullmatch(text))), None)
    if match is None:
        return None
    year, month = int(match["year"]), MONTHS.index(match["month"]) + 1
    if len(match["year"]) == 2:
        year = _full_year(year)
    try:
        minute = datetime(
            year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), tzinfo=UTC
        )
    except ValueError:  # the 30th of February
        return None
    return minute.timestamp() + int(match["second"])  # added, as a leap second is 60


def _full_year(two_digits: int) -> int:
    """Return the year of an RFC 850 date: the latest that is not too far ahead of today."""
    horizon = datetime.now(UTC).year + _YEARS_AHEAD
    return horizon - (horizon - two_digits) % 100
