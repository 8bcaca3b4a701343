"""The files of a `multipart/form-data` body (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from httpd.exchange import Fields, Refusal, Request

# Every file of a form is held open until the last one has come, as all are stored or none.
MOST_PARTS = 1000
# Of a part's head: browsers send three short lines, a long name in all scripts fits.
MOST_HEADER_BYTES = 8 * 1024
# A form's other fields (a submit button, a token of the site's) are read and dropped.
MOST_FIELD_BYTES = 1024 * 1024

FORM = "multipart/form-data"


class FileBegins(NamedTuple):
    """A file of the form begins; its bytes follow, and then None."""

    name: str
    kind: str | None  # the media type that the form states


Event = FileBegins | bytes | None


def is_form(request: Request) -> bool:
    """Tell whether the content is a form; whatever else it is, it is stored as it comes."""
    return request.fields.once(_announce_a_form)


def _announce_a_form(fields: Fields) -> bool:
    kind, _ = parse_options_header(fields.get("content-type") or "")
    return str(kind).lower() == FORM


class Form:
    """Iterates over the events of a form as it arrives; raises Refusal 400 or 413.

    The grammar is the `multipart` package's, whose push parser is bounded and without I/O.
    """

    def __init__(self, request: Request, content: AsyncIterator[bytes]) -> None:
        """Take the request, for its boundary, and its content."""
        _, options = parse_options_header(request.fields.get("content-type") or "")
        try:
            self._parser = PushMultipartParser(
                options.get("boundary", ""),
                max_header_size=MOST_HEADER_BYTES,
                max_segment_count=MOST_PARTS,
                # Its strict mode refuses text before and after the parts (RFC 2046 section 5.1.1)
                # or not, depending on how the bytes happened to be split.
                strict=False,
            )
        except MultipartError as error:
            raise Refusal(400, f"malformed form: {error}") from error
        self._content = content
        self._events: Iterator[MultipartSegment | bytes | bytearray | None] = iter(())
        self._in_file = False
        self._dropped = 0

    def __aiter__(self) -> AsyncIterator[Event]:
        """Return itself: there is one pass."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event of a file; the form's other fields are left out."""
        while True:
            event = await self._next()
            if isinstance(event, MultipartSegment):
                # A file field with nothing chosen comes with an empty name (HTML 4.10.22.4).
                self._in_file = bool(event.filename)
                if self._in_file:
                    return FileBegins(event.filename or "", event.content_type)
            elif self._in_file:
                self._in_file = event is not None
                return None if event is None else bytes(event)
            else:
                self._drop(event)

    async def _next(self) -> MultipartSegment | bytes | bytearray | None:
        try:
            while True:
                for event in self._events:
                    return event
                self._events = self._parser.parse(await self._more())
        except ParserLimitReached as error:
            raise Refusal(413, f"form too large: {error}") from error
        except MultipartError as error:
            raise Refusal(400, f"malformed form: {error}") from error

    async def _more(self) -> bytes:
        try:
            return await anext(self._content)
        except StopAsyncIteration:
            self._parser.close()  # raises where the closing boundary has not come
            raise

    def _drop(self, event: bytes | bytearray | None) -> None:
        self._dropped += len(event or b"")
        if self._dropped > MOST_FIELD_BYTES:
            raise Refusal(413, "the form's fields that are not files are too large")
