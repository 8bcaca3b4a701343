"""What the server itself says in an answer: its fields in the head, and why it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httpd.exchange import Refusal, Response
from httpd.protocol.render import problem, render_head
from httpd.server.request_id import FIELD

if TYPE_CHECKING:
    from httpd.protocol.head import Head


def lead(response: Response, head: Head | None, date: str, request_id: str, *, keep: bool) -> bytes:
    """Render the response's head with the fields that the server answers for.

    `head`: the request's, None where none could be read; `keep`: the connection goes on after it.
    """
    # No browser is to take anything from here for another type than it is said to be.
    safe = ("X-Content-Type-Options", "nosniff")
    known = [("Date", date), (FIELD, request_id), ("Server", "filestored"), safe]
    fields = [*known, *response.fields]
    if response.status != 304:  # RFC 9110 section 15.4.5: a 304 tells no other length
        fields.append(("Content-Length", str(response.length)))
    if not keep:
        fields.append(("Connection", "close"))
    elif head is not None and head.version == (1, 0):
        fields.append(("Connection", "keep-alive"))
    return render_head(response.status, fields)


def refused(refusal: Refusal, head: Head | None, request_id: str) -> Response:
    """Return the response that tells of a refusal, in the way that the request's head asks for."""
    accept = None if head is None else head.fields.get("accept")
    kind, content = problem(refusal.status, refusal.reason, accept, request_id)
    # A 404 may be stored by caches, for as long as they think fit (RFC 9111 section 4.2.2), and
    # the file may be there the next moment.
    fields = [("Content-Type", kind), ("Cache-Control", "no-store"), *refusal.fields]
    return Response(refusal.status, fields, content)
