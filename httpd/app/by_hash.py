"""The front door by hash, `/`: content is named by its digest, and never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from httpd.app.download import download
from httpd.app.expected import Expected, expected_of
from httpd.app.form import is_form
from httpd.app.intake import Upload
from httpd.app.page import page
from httpd.app.responses import document, text, wants_json
from httpd.exchange import Refusal, Request, Response
from httpd.protocol.accept import prefers
from httpd.protocol.conditional import evaluate
from httpd.protocol.disposition import filename_of, safe_name
from httpd.protocol.target import quote_query
from httpd.storage.contract import NotFound, Storage, Stored
from httpd.storage.digest import Digest
from httpd.traps import in_pool

USAGE = "usage: POST / with a file, GET /?file_hash=<digest>, DELETE /?file_hash=<digest>"

# Content under its digest can't change, so no cache ever has to ask again (RFC 8246).
FOREVER = [("Cache-Control", "public, max-age=31536000, immutable")]


class ByHash:
    """`POST /`, `POST /<name>`, `GET /` and `DELETE /`."""

    def __init__(self, storage: Storage, algorithm: str) -> None:
        """Take the storage and the name of its algorithm."""
        self._storage = storage
        self._algorithm = algorithm

    async def post(self, request: Request) -> Response:
        """Store the files of the request; answer with their digests."""
        _refuse_unsupported(request)
        expected = expected_of(request, self._algorithm)
        name = _name_of(request)
        stored = await self._stored_already(request, expected)
        if stored is not None:
            return _receipt(request, [stored], [name])
        upload = Upload(self._storage, expected, name)
        results = await upload.store(request)
        return _receipt(request, results, [intake.name for intake in upload.intakes])

    async def get(self, request: Request) -> Response:
        """Answer with the content of a digest, or with what is known of it (`&stat`)."""
        if not request.query:
            return _welcome(request)
        # On the loop, not in the pool: an open(2) and an fstat(2) take less than the way there.
        blob = self._storage.open(self._digest(request))
        if request.query_values("stat"):
            with_stat = _stat_document(blob.digest, blob.size, blob.stored_at)
            blob.close()
            return with_stat
        names = request.query_values("name")
        return download(request, blob, names[-1] if names else None, FOREVER)

    async def delete(self, request: Request) -> Response:
        """Remove the content of a digest, for good."""
        digest = self._digest(request)
        self._check_preconditions(request, digest)
        await in_pool(self._storage.delete, digest)
        return text("")

    def _digest(self, request: Request) -> Digest:
        values = request.query_values("file_hash")
        if len(values) != 1:
            raise Refusal(400, f"exactly one file_hash is needed; {USAGE}")
        return Digest.parse(values[0], self._algorithm)

    async def _stored_already(self, request: Request, expected: Expected) -> Stored | None:
        """Find the content that a client still holds back, so that it need not be sent."""
        # What the fields state of a form is not the digest of a file.
        digests = expected.file if is_form(request) else [*expected.file, *expected.content]
        # Of several all would have to be checked against the content.
        if not request.expects_continue or len(digests) != 1:
            return None
        try:
            return await in_pool(self._storage.confirm, digests[0])
        except NotFound:
            return None

    def _check_preconditions(self, request: Request, digest: Digest) -> None:
        blob = self._storage.open(digest)
        blob.close()
        if evaluate(request.fields, request.method, f'"{digest.hex}"', blob.stored_at) == 412:
            raise Refusal(412, "a precondition of the request does not hold")


def _refuse_unsupported(request: Request) -> None:
    """Refuse content that would be stored as something else than its sender means."""
    coding = request.fields.get("content-encoding")
    if coding is not None and coding.lower() != "identity":
        # RFC 9110 section 8.4: the stored bytes would lose the word of how to decode them.
        accepted = [("Accept-Encoding", "identity")]
        raise Refusal(415, "send the content without a content coding", accepted)
    if "content-range" in request.fields:
        raise Refusal(400, "a part of a file cannot be stored (RFC 9110 section 14.5)")


def _name_of(request: Request) -> str | None:
    """Return the name of a raw body: the path's, or that of Content-Disposition."""
    name = request.path[1:] or filename_of(request.fields.get("content-disposition")) or ""
    return safe_name(name) or None


def _receipt(request: Request, stored: list[Stored], names: list[str | None]) -> Response:
    """Answer an upload: one digest a line, or the same with more to it as JSON."""
    fields = []
    if len(stored) == 1:
        ((digest, _, _),) = stored
        location = f"/?file_hash={digest.hex}"
        if names[0] is not None:
            location += f"&name={quote_query(names[0])}"
        fields = [("ETag", f'"{digest.hex}"'), ("Location", location)]
    if wants_json(request):
        rows = [_row(each) for each in stored]
        return document(rows[0] if len(rows) == 1 else rows, fields)
    return text("\n".join(each.digest.hex for each in stored), fields)


def _row(stored: Stored) -> dict[str, Any]:
    return {
        "file_hash": stored.digest.hex,
        "size": stored.size,
        "algorithm": stored.digest.algorithm,
        "created": stored.created,
    }


def _stat_document(digest: Digest, size: int, stored_at: float) -> Response:
    moment = datetime.fromtimestamp(stored_at, UTC).isoformat(timespec="milliseconds")
    return document(
        {
            "file_hash": digest.hex,
            "size": size,
            "algorithm": digest.algorithm,
            "stored_at": moment.replace("+00:00", "Z"),
        }
    )


def _welcome(request: Request) -> Response:
    """Show a browser the page, and anyone else how to ask."""
    if prefers(request.fields.get("accept"), ("text/plain", "text/html")) == "text/html":
        return page()
    raise Refusal(400, USAGE)
