"""The plain shapes of an answer: a line of text, a JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from httpd.exchange import Fields, Request, Response
from httpd.protocol.accept import prefers

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


def wants_json(request: Request) -> bool:
    """Tell whether the client prefers JSON to plain text (RFC 9110 section 12.5.1)."""
    return request.fields.once(_prefer_json)


def text(content: str, fields: Iterable[tuple[str, str]] = ()) -> Response:
    """Return a 200 with that text and nothing more, not even a newline."""
    return answer(content.encode(), TEXT, fields)


def document(value: Any, fields: Iterable[tuple[str, str]] = ()) -> Response:
    """Return a 200 with `value` as JSON."""
    return answer(json.dumps(value, ensure_ascii=False).encode() + b"\n", JSON, fields)


def answer(content: bytes, kind: str, fields: Iterable[tuple[str, str]] = ()) -> Response:
    """Return a 200 with content of that media type."""
    return Response(200, [("Content-Type", kind), *fields], content)


def timestamp(moment: datetime) -> str:
    """Return a moment in UTC as JSON has it, to the millisecond (RFC 3339)."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _prefer_json(fields: Fields) -> bool:
    return prefers(fields.get("accept"), ("text/plain", JSON)) == JSON
