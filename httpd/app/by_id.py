"""The front door by id, `/files/`: every upload gets an id of its own and keeps its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from httpd import metrics
from httpd.app.download import Shown, download
from httpd.app.expected import Expected, expected_of
from httpd.app.intake import Incoming, Upload, raw_file, refuse_unsupported
from httpd.app.media_types import UNKNOWN, stated_type
from httpd.app.references import Named, References, digest_of
from httpd.app.responses import document, text, timestamp, wants_json
from httpd.app.shares import Shares
from httpd.catalog.rows import File
from httpd.exchange import Refusal, Request, Response
from httpd.protocol.target import quote_query
from httpd.storage.contract import Damaged, NotFound, Staged, Storage
from httpd.storage.digest import Digest
from httpd.traps import in_pool

if TYPE_CHECKING:
    from httpd.catalog.catalog import Catalog

PREFIX = "/files/"

# A page of the list where no limit is given: it fills a screen, and with a hundred thousand files
# it takes well under a millisecond (bench/catalog.py), which a page of a hundred does not.
PAGE = 20
LONGEST_PAGE = 1000
LIMIT = re.compile("[0-9]{1,4}")

# The id of a file that is deleted must not go on in a cache; asking again costs a 304.
ASK_AGAIN = [("Cache-Control", "no-cache")]


class ById:
    """`POST /files/`, `GET /files/`, and `GET` and `DELETE` of `/files/<id>/`."""

    def __init__(
        self,
        storage: Storage,
        shares: Shares,
        catalog: Catalog,
        references: References,
        algorithm: str,
    ) -> None:
        """Take the storage and the name of its algorithm, the catalog, and what joins the two.

        `shares`: what big uploads share.
        """
        self._storage = storage
        self._shares = shares
        self._catalog = catalog
        self._references = references
        self._algorithm = algorithm

    async def post(self, request: Request) -> Response:
        """Store the files of the request; answer with their new ids."""
        refuse_unsupported(request)
        expected = expected_of(request, self._algorithm)
        raw = raw_file(request, PREFIX)
        named = await self._named_already(request, expected, raw)
        if named is not None:
            return _receipt(request, [named])
        upload = Upload(self._storage, self._shares, expected, raw)
        return _receipt(request, await upload.store(request, self._keep))

    async def index(self, request: Request) -> Response:
        """Answer with a page of the files, newest first; `Link` leads to the next (RFC 8288)."""
        limit = _limit(request)
        name = _one_value(request, "name")
        try:
            page = await in_pool(self._catalog.list, limit, _one_value(request, "after"), name)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        fields = [("Cache-Control", "no-cache")]
        if page.next is not None:
            query = f"limit={limit}&after={quote_query(page.next)}"
            query += f"&name={quote_query(name)}" if name is not None else ""
            fields.append(("Link", f'<{PREFIX}?{query}>; rel="next"'))
        return document([_row(file) for file in page.files], fields)

    async def get(self, request: Request) -> Response:
        """Answer with the content of a file under its name."""
        file = await in_pool(self._references.find, _id_of(request))
        try:
            blob = self._storage.open(digest_of(file))
        except Damaged:
            raise
        except NotFound:
            # Deleted this moment, then the id is gone too; or the content is missing.
            await in_pool(self._references.find, file.id)
            raise Refusal(500, "the content of this file is missing") from None
        return download(request, blob, Shown(file.name, file.type or UNKNOWN), ASK_AGAIN)

    async def delete(self, request: Request) -> Response:
        """Take the name away, and the content with its last name."""
        await in_pool(self._references.delete_by_id, _id_of(request))
        return text("")

    async def _keep(self, staged: Staged, expected: list[Digest], incoming: Incoming) -> Named:
        kind = stated_type(incoming.kind, incoming.name)
        store = self._references.store_by_id
        return await in_pool(store, staged, expected, incoming.name, kind)

    async def _named_already(
        self, request: Request, expected: Expected, raw: Incoming
    ) -> Named | None:
        """Name content that the client still holds back, so that it need not be sent."""
        digest = expected.of_withheld_file(request)
        if digest is None:
            return None
        kind = stated_type(raw.kind, raw.name)
        try:
            return await in_pool(self._references.name_by_id, digest, raw.name, kind)
        except NotFound:
            return None


def _id_of(request: Request) -> str:
    return request.path.removeprefix(PREFIX).removesuffix("/").lower()


def _one_value(request: Request, parameter: str) -> str | None:
    values = request.query_values(parameter)
    if len(values) > 1:
        raise Refusal(400, f"{parameter} is given more than once")
    return values[0] if values else None


def _limit(request: Request) -> int:
    value = _one_value(request, "limit")
    if value is None:
        return PAGE
    limit = int(value) if LIMIT.fullmatch(value) else 0
    if not 1 <= limit <= LONGEST_PAGE:
        raise Refusal(400, f"limit is a number from 1 to {LONGEST_PAGE}")
    return limit


def _receipt(request: Request, named: list[Named]) -> Response:
    """Answer an upload: one id a line, or the same with more to it as JSON."""
    for each in named:
        metrics.upload("id", each.file.size, created=each.created)
    fields = []
    if len(named) == 1:
        fields = [("Location", f"{PREFIX}{named[0].file.id}/")]
    if wants_json(request):
        rows = [{**_row(each.file), "created": each.created} for each in named]
        response = document(rows[0] if len(rows) == 1 else rows, fields)
    else:
        response = text("\n".join(each.file.id for each in named), fields)
    response.status = 201
    return response


def _row(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "type": file.type,
        "size": file.size,
        "file_hash": file.digest,
        "algorithm": file.algorithm,
        "created_at": timestamp(file.created_at),
    }
