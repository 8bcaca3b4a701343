"""A blob as a response: whole or in ranges, conditional, with a name (RFC 9110 13 and 14)."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from httpd.app.media_types import UNKNOWN, disposition_of, type_of, with_charset
from httpd.exchange import Refusal, Request, Response, Span
from httpd.protocol.conditional import evaluate, range_applies
from httpd.protocol.disposition import render_disposition, safe_name
from httpd.protocol.ranges import closing, content_range, parse_range, part_head
from httpd.protocol.render import http_date
from httpd.storage.contract import Blob

# Up to here one pread and one send for head and content beat a send and a sendfile.
SMALL = 64 * 1024

# Whatever the file is, it gets an origin of its own, without scripts, and loads nothing. What is
# left is what browsers show a picture, a sound or a film with: a page of their own around it.
POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
# Chromium's page around a sound or a film asks for it by CORS, and from an origin of its own it may
# not. Scripts are out all the same.
PLAYED = ("audio/", "video/")
POLICY_OF_PLAYED = f"{POLICY} allow-same-origin"


class Shown(NamedTuple):
    """How content is shown to a browser."""

    name: str  # "" for none
    kind: str  # the media type

    @classmethod
    def by_name(cls, name: str) -> Shown:
        """Return how a file of that name is shown, whatever the name."""
        name = safe_name(name)
        return cls(name, type_of(name) if name else UNKNOWN)


class Part(NamedTuple):
    """What of a blob is answered, and with which status."""

    status: int
    offset: int
    length: int  # in bytes

    def of(self, blob: Blob) -> bytes | tuple[Span]:
        """Return it as content. Raises OSError."""
        # What is not in memory is sent like what is large: the server waits for it, not the loop.
        content = blob.read_now(self.length, self.offset) if self.length <= SMALL else None
        if content is None:
            return (Span(blob, self.offset, self.length),)
        if len(content) != self.length:
            raise OSError(f"{blob.digest.hex} has become shorter than its {blob.size} bytes")
        return content


class Again:
    """Answers with the same part of a blob once more, see `Response.again`."""

    __slots__ = ("_blob", "_part")

    def __init__(self, part: Part, blob: Blob) -> None:
        """Take the part, and the blob that it is of, which may be closed."""
        self._part = part
        self._blob = blob

    def __call__(self) -> Response | None:
        """Open the blob, and return the part of it; None where that is not the same any more."""
        try:
            blob = self._blob.reopen()
        except OSError:
            return None
        if blob is None:
            return None
        try:
            return _closing(Response(self._part.status, [], self._part.of(blob)), blob)
        except OSError:
            blob.close()
            return None


def download(
    request: Request,
    blob: Blob,
    shown: Shown,
    fields: list[tuple[str, str]],
) -> Response:
    """Answer a GET of `blob`, which is closed when the response is done with.

    `fields` are the resource's own, for caches. Raises Refusal 412 or 416, and OSError.
    """
    try:
        response = _respond(request, blob, shown, fields)
    except BaseException:
        blob.close()
        raise
    return _closing(response, blob)


def _closing(response: Response, blob: Blob) -> Response:
    """Let the blob be closed with the response, or now if that has no need of it."""
    if isinstance(response.content, bytes):
        blob.close()
    else:
        response.release = blob.close
    return response


def _respond(
    request: Request,
    blob: Blob,
    shown: Shown,
    fields: list[tuple[str, str]],
) -> Response:
    etag = f'"{blob.digest.hex}"'
    validators = [("ETag", etag), ("Last-Modified", http_date(blob.stored_at)), *fields]
    status = evaluate(request.fields, request.method, etag, blob.stored_at)
    if status == 304:
        return Response(304, validators)
    if status == 412:
        raise Refusal(412, "a precondition of the request does not hold")
    fields = [*validators, ("Accept-Ranges", "bytes"), *_for_browsers(shown)]
    kind = with_charset(shown.kind)
    ranges = None
    value = request.fields.get("range")
    if value is not None and range_applies(request.fields, etag, blob.stored_at):
        ranges = parse_range(value, blob.size)
    if ranges is None:
        part = Part(200, 0, blob.size)
        return _answer(part, blob, [("Content-Type", kind), *fields])
    return _partial(blob, ranges, kind, fields)


def _for_browsers(shown: Shown) -> list[tuple[str, str]]:
    """Return what keeps a browser from taking a stranger's file for a part of the site."""
    kind = disposition_of(shown.kind)
    disposition = render_disposition(kind, shown.name) if shown.name else kind
    played = kind == "inline" and shown.kind.startswith(PLAYED)
    policy = POLICY_OF_PLAYED if played else POLICY
    return [("Content-Security-Policy", policy), ("Content-Disposition", disposition)]


def _partial(
    blob: Blob,
    ranges: list[tuple[int, int]],
    kind: str,
    fields: list[tuple[str, str]],
) -> Response:
    """Answer with ranges, each an offset and a length in bytes (RFC 9110 section 15.3.7)."""
    if len(ranges) == 1:
        ((offset, length),) = ranges
        where = ("Content-Range", content_range(offset, length, blob.size))
        part = Part(206, offset, length)
        return _answer(part, blob, [("Content-Type", kind), where, *fields])
    # Random, so that no content can have been made to contain it.
    boundary = secrets.token_hex(16)
    content: list[bytes | Span] = []
    for offset, length in ranges:
        content.append(part_head(boundary, kind, offset, length, blob.size))
        content.append(Span(blob, offset, length))
    content.append(closing(boundary))
    content_type = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return Response(206, [content_type, *fields], tuple(content))


def _answer(part: Part, blob: Blob, fields: list[tuple[str, str]]) -> Response:
    return Response(part.status, fields, part.of(blob), again=Again(part, blob))
