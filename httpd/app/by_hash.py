"""The front door by hash, `/`: content is named by its digest, and never changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from httpd import metrics
from httpd.app.download import Shown, download
from httpd.app.expected import Expected, expected_of
from httpd.app.form import is_form
from httpd.app.intake import Incoming, Upload, raw_file, refuse_unsupported
from httpd.app.page import page
from httpd.app.references import References
from httpd.app.responses import document, text, timestamp, wants_json
from httpd.app.shares import Shares
from httpd.exchange import Refusal, Request, Response
from httpd.protocol.accept import prefers
from httpd.protocol.conditional import evaluate
from httpd.protocol.target import quote_query
from httpd.storage.contract import SMALL, Blob, Damaged, NotFound, Staged, Storage, Stored
from httpd.storage.digest import Digest
from httpd.traps import in_pool, together

USAGE = "usage: POST / with a file, GET /?file_hash=<digest>, DELETE /?file_hash=<digest>"

# Content under its digest can't change, so no cache ever has to ask again (RFC 8246).
FOREVER = [("Cache-Control", "public, max-age=31536000, immutable")]


class ByHash:
    """`POST /`, `POST /<name>`, `GET /` and `DELETE /`."""

    def __init__(
        self, storage: Storage, shares: Shares, references: References, algorithm: str
    ) -> None:
        """Take the storage, the name of its algorithm, and who else refers to its content.

        `shares`: what big uploads share.
        """
        self._storage = storage
        self._shares = shares
        self._references = references
        self._algorithm = algorithm

    async def post(self, request: Request) -> Response:
        """Store the files of the request; answer with their digests."""
        refuse_unsupported(request)
        expected = expected_of(request, self._algorithm)
        raw = raw_file(request, "/")
        stored = await self._stored_already(request, expected)
        if stored is not None:
            return _receipt(request, [(stored, raw.name)])
        # Nearly every upload of a small file comes this way. Staging takes 17 µs by itself.
        content = None if is_form(request) else await request.body.read(SMALL)
        if content is None:
            upload = Upload(self._storage, self._shares, expected, raw)
            return _receipt(request, await upload.store(request, self._keep))
        stored = await together(self._storage.publish_together, (content, expected.raw))
        if stored is not None:
            return _receipt(request, [(stored, raw.name)])
        upload = Upload(self._storage, self._shares, expected, raw, content)
        return _receipt(request, await upload.store(request, self._keep_alone))

    async def get(self, request: Request) -> Response:
        """Answer with the content of a digest, or with what is known of it (`&stat`)."""
        if not request.query:
            return _welcome(request)
        digest = self._digest(request)
        lasts = self._storage.none_deleted(digest)
        # On the loop, not in the pool: an open(2) and an fstat(2) take less than the way there.
        blob = self._storage.open(digest)
        if request.query_values("stat"):
            blob.close()
            return _stat_document(blob)
        names = request.query_values("name")
        shown = Shown.by_name(names[-1] if names else "")
        response = download(request, blob, shown, FOREVER)
        response.lasts = lasts
        return response

    async def delete(self, request: Request) -> Response:
        """Remove the content of a digest, for good."""
        digest = self._digest(request)
        self._check_preconditions(request, digest)
        await in_pool(self._references.delete_by_hash, digest)
        return text("")

    def _digest(self, request: Request) -> Digest:
        values = request.query_values("file_hash")
        if len(values) != 1:
            raise Refusal(400, f"exactly one file_hash is needed; {USAGE}")
        return Digest.parse(values[0], self._algorithm)

    async def _keep(
        self, staged: Staged, expected: list[Digest], incoming: Incoming
    ) -> tuple[Stored, str | None]:
        content = staged.unwritten()
        if content is not None:
            stored = await together(self._storage.publish_together, (content, expected))
            if stored is not None:
                return stored, incoming.name
        return await self._keep_alone(staged, expected, incoming)

    async def _keep_alone(
        self, staged: Staged, expected: list[Digest], incoming: Incoming
    ) -> tuple[Stored, str | None]:
        """Publish what is not small, or not new, or has to have a flush of its own."""
        stored = await in_pool(self._references.store_by_hash, staged, expected)
        return stored, incoming.name

    async def _stored_already(self, request: Request, expected: Expected) -> Stored | None:
        """Find the content that a client still holds back, so that it need not be sent."""
        digest = expected.of_withheld_file(request)
        if digest is None:
            return None
        try:
            return await in_pool(self._references.keep_by_hash, digest)
        except NotFound:
            return None

    def _check_preconditions(self, request: Request, digest: Digest) -> None:
        try:
            blob = self._storage.open(digest)
        except Damaged:
            return  # there is nothing that a condition could be about, and it may go
        blob.close()
        if evaluate(request.fields, request.method, f'"{digest.hex}"', blob.stored_at) == 412:
            raise Refusal(412, "a precondition of the request does not hold")


def _receipt(request: Request, files: list[tuple[Stored, str | None]]) -> Response:
    """Answer an upload: one digest a line, or the same with more to it as JSON."""
    for stored, _ in files:
        metrics.upload("hash", stored.size, created=stored.created)
    fields = []
    if len(files) == 1:
        (((digest, _, _), name),) = files
        location = f"/?file_hash={digest.hex}"
        if name is not None:
            location += f"&name={quote_query(name)}"
        fields = [("ETag", f'"{digest.hex}"'), ("Location", location)]
    if wants_json(request):
        rows = [_row(stored) for stored, _ in files]
        return document(rows[0] if len(rows) == 1 else rows, fields)
    return text("\n".join(stored.digest.hex for stored, _ in files), fields)


def _row(stored: Stored) -> dict[str, Any]:
    return {
        "file_hash": stored.digest.hex,
        "size": stored.size,
        "algorithm": stored.digest.algorithm,
        "created": stored.created,
    }


def _stat_document(blob: Blob) -> Response:
    return document(
        {
            "file_hash": blob.digest.hex,
            "size": blob.size,
            "algorithm": blob.digest.algorithm,
            "stored_at": timestamp(datetime.fromtimestamp(blob.stored_at, UTC)),
        },
        [("Cache-Control", "no-cache")],  # it may be deleted
    )


def _welcome(request: Request) -> Response:
    """Show a browser the page, and anyone else how to ask."""
    if prefers(request.fields.get("accept"), ("text/plain", "text/html")) == "text/html":
        return page()
    raise Refusal(400, USAGE)
