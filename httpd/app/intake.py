"""Uploads on their way from a body into the storage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from httpd.app.expected import CheckedContent, Expected
from httpd.app.form import FileBegins, Form, is_form
from httpd.exchange import Fields, Refusal, Request
from httpd.protocol.disposition import filename_of, safe_name
from httpd.storage.contract import Staged, Storage
from httpd.storage.digest import Digest
from httpd.traps import Job, in_pool, start

T = TypeVar("T")

# What is handed to the pool at once. Less, and handing it over costs more than the work; content
# below it is hashed and written by the one call that publishes it.
BATCH = 128 * 1024
# Batches that are handed over and not yet worked off. With two, the pool has the next one at hand
# when it finishes one; more would only hold more memory.
BATCHES_AHEAD = 2


class Incoming(NamedTuple):
    """What the sender says of a file besides its bytes."""

    name: str | None
    kind: str | None  # its media type, as a field has it


Keep = Callable[[Staged, list[Digest], Incoming], Coroutine[Any, Any, T]]
"""What a front door does with a file that has arrived: (staged, expected, incoming).

Has it published, and returns what the door answers with; raises what `Staged.publish` raises.
"""


class Intake:
    """Feeds one staged blob: earlier pieces are hashed and written while later ones arrive."""

    def __init__(self, staged: Staged, incoming: Incoming) -> None:
        """Take the staged blob, and what its sender says of it."""
        self._staged = staged
        self._incoming = incoming
        self._kept = False
        self._batch = bytearray()
        self._jobs: deque[Job[Any]] = deque()

    async def feed(self, piece: bytes) -> None:
        """Take the next piece; wait where the storage does not keep up."""
        if len(piece) >= BATCH and not self._batch:
            await self._hand_over(piece)  # the usual piece of a big file, without a copy
            return
        self._batch += piece
        if len(self._batch) >= BATCH:
            await self._hand_over(self._take_batch())

    async def settle(self) -> None:
        """Wait until nothing is under way in the pool; the rest is left to `publish`."""
        self._staged.append(self._take_batch())
        while self._jobs:
            await self._jobs.popleft()

    async def put_away(self) -> None:
        """After `settle`, work off the rest too, so that it is not held while other files come."""
        await in_pool(self._staged.hash_batch)
        await in_pool(self._staged.write_batch)

    async def hand_to(self, keep: Keep[T], expected: list[Digest]) -> T:
        """Let the front door keep the content; raise what that raises."""
        kept = await keep(self._staged, expected, self._incoming)
        self._kept = True
        return kept

    async def discard(self) -> None:
        """Leave nothing behind, unless it has been kept."""
        if not self._kept:
            await in_pool(self._staged.discard)

    async def _hand_over(self, batch: bytes) -> None:
        self._staged.append(batch)
        # Two lanes at the same time: hashing a piece takes longer than writing it, and what
        # hashes the whole file in a row is as fast as md5sum is.
        self._jobs.append(await start(self._staged.hash_batch))
        self._jobs.append(await start(self._staged.write_batch))
        while len(self._jobs) > 2 * BATCHES_AHEAD:
            await self._jobs.popleft()

    def _take_batch(self) -> bytes:
        batch = bytes(self._batch)
        self._batch.clear()
        return batch


class Upload:
    """All files of one request: every one of them is stored, or none is begun to be."""

    def __init__(
        self, storage: Storage, expected: Expected, raw: Incoming, begin: bytes | None = None
    ) -> None:
        """Take the storage, the stated digests, and what is said of the file of a raw body.

        `begin`: what has been read of a raw body already.
        """
        self._storage = storage
        self._expected = expected
        self._raw = raw
        self._read = begin
        self._intakes: list[Intake] = []

    async def store(self, request: Request, keep: Keep[T]) -> list[T]:
        """Receive the request's content and have it kept; leave nothing behind on any failure.

        Raises Refusal, Disconnected, and what `keep` raises.
        """
        try:
            if self._read is None and is_form(request):
                await self._receive_form(request)
                expected = self._expected.file
            else:
                await self._receive_raw(request)
                expected = self._expected.raw
            return [await intake.hand_to(keep, expected) for intake in self._intakes]
        finally:
            for intake in self._intakes:
                await intake.discard()

    async def _receive_raw(self, request: Request) -> None:
        content = self._expected.content
        intake = self._begin(self._raw, [digest.algorithm for digest in content])
        if self._read:
            await intake.feed(self._read)
        async for piece in request.body:
            await intake.feed(piece)
        await intake.settle()

    async def _receive_form(self, request: Request) -> None:
        content = CheckedContent(request.body, self._expected.content)
        async for event in Form(request, content):
            if isinstance(event, FileBegins):
                if self._intakes:
                    await self._intakes[-1].put_away()
                intake = self._begin(Incoming(safe_name(event.name) or None, event.kind), [])
            elif event is None:
                await intake.settle()
            else:
                await intake.feed(event)
        if not self._intakes:
            raise Refusal(400, "the form has no file")
        if self._expected.file and len(self._intakes) > 1:
            raise Refusal(400, "file_hash is stated for a form of several files")

    def _begin(self, incoming: Incoming, also: list[str]) -> Intake:
        stated = {digest.algorithm for digest in self._expected.file}
        intake = Intake(self._storage.stage(stated.union(also)), incoming)
        self._intakes.append(intake)
        return intake


def raw_file(request: Request, prefix: str) -> Incoming:
    """Return what is said of a raw body: its name is the path's, or that of its disposition."""
    name = request.path.partition(prefix)[2]  # a prefix without its last slash has none
    name = name or request.fields.once(_stated_name) or ""
    return Incoming((name and safe_name(name)) or None, request.fields.get("content-type"))


def _stated_name(fields: Fields) -> str | None:
    return filename_of(fields.get("content-disposition"))


def refuse_unsupported(request: Request) -> None:
    """Refuse content that would be stored as something else than its sender means."""
    coding = request.fields.get("content-encoding")
    if coding is not None and coding.lower() != "identity":
        # RFC 9110 section 8.4: the stored bytes would lose the word of how to decode them.
        accepted = [("Accept-Encoding", "identity")]
        raise Refusal(415, "send the content without a content coding", accepted)
    if "content-range" in request.fields:
        raise Refusal(400, "a part of a file cannot be stored (RFC 9110 section 14.5)")
