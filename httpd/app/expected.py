"""What the sender says its content's digests are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from httpd.app.form import is_form
from httpd.exchange import Body, Fields, Refusal, Request
from httpd.protocol.digest_fields import expected_digests
from httpd.storage.contract import DigestMismatch
from httpd.storage.digest import ALGORITHMS, Digest
from httpd.traps import in_pool


class Expected(NamedTuple):
    """Digests that have to be met before anything is stored."""

    file: list[Digest]  # of the file: from `?file_hash=`
    content: list[Digest]  # of the request's content: from its fields (RFC 9530, RFC 1864)

    @property
    def raw(self) -> list[Digest]:
        """All of them: the content of a raw body is the file."""
        return [*self.file, *self.content]

    def of_withheld_file(self, request: Request) -> Digest | None:
        """Return the digest of a file that its sender holds back until it is asked for.

        None where it comes anyway, or where its digest cannot be known for certain.
        """
        # What the fields state of a form is not the digest of a file.
        digests = self.file if is_form(request) else self.raw
        # Of several all would have to be checked against the content.
        return digests[0] if request.expects_continue and len(digests) == 1 else None


def expected_of(request: Request, preferred: str) -> Expected:
    """Gather the digests that a request states; raise Refusal or BadDigest at a malformed one.

    `preferred` is the storage's algorithm, see `Digest.parse`.
    """
    values = request.query_values("file_hash")
    if len(values) > 1:
        raise Refusal(400, "file_hash is given more than once")
    return Expected(
        [Digest.parse(value, preferred) for value in values],
        request.fields.once(_of_content),
    )


def _of_content(fields: Fields) -> list[Digest]:
    return [Digest(each.algorithm, each.value.hex()) for each in expected_digests(fields)]


class CheckedContent:
    """A body that raises DigestMismatch at its end where it is not what its sender has stated.

    For a form: its fields speak of the whole content, not of a file within.
    """

    def __init__(self, body: Body, expected: list[Digest]) -> None:
        """Take the body and the digests that it has to meet."""
        self._body = aiter(body)
        self._running = [(digest, ALGORITHMS[digest.algorithm].begin()) for digest in expected]

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return itself: there is one pass."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece, hashed."""
        try:
            piece = await anext(self._body)
        except StopAsyncIteration:
            self._check()
            raise
        for _, running in self._running:
            await in_pool(running.update, piece)
        return piece

    def _check(self) -> None:
        for digest, running in self._running:
            if running.hexdigest() != digest.hex:
                raise DigestMismatch(digest, Digest(digest.algorithm, running.hexdigest()))
