"""Uploads on their way from a body into the storage."""

from __future__ import annotations

from collections import deque
from typing import Any

from httpd.app.expected import CheckedContent, Expected
from httpd.app.form import FileBegins, Form, is_form
from httpd.exchange import Refusal, Request
from httpd.protocol.disposition import safe_name
from httpd.storage.contract import Staged, Storage, Stored
from httpd.storage.digest import Digest
from httpd.traps import Job, in_pool, start

# What is handed to the pool at once. Less, and handing it over costs more than the work; content
# below it is hashed and written by the one call that publishes it.
BATCH = 128 * 1024
# Batches that are handed over and not yet worked off. With two, the pool has the next one at hand
# when it finishes one; more would only hold more memory.
BATCHES_AHEAD = 2


class Intake:
    """Feeds one staged blob: earlier pieces are hashed and written while later ones arrive."""

    def __init__(self, staged: Staged, name: str | None) -> None:
        """Take the staged blob, and the name its sender gives the file."""
        self.name = name
        self._staged = staged
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

    async def publish(self, expected: list[Digest]) -> Stored:
        """Store the content, durably; raise what `Staged.publish` raises."""
        return await in_pool(self._staged.publish, expected)

    async def discard(self) -> None:
        """Leave nothing behind, unless it has been published."""
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

    def __init__(self, storage: Storage, expected: Expected, name: str | None) -> None:
        """Take the storage, the stated digests, and a raw body's name where the request has one."""
        self._storage = storage
        self._expected = expected
        self._name = name
        self.intakes: list[Intake] = []

    async def store(self, request: Request) -> list[Stored]:
        """Receive the request's content and store it; leave nothing behind on any failure.

        Raises Refusal, Disconnected, and what `Staged.publish` raises.
        """
        try:
            if is_form(request):
                await self._receive_form(request)
                expected = self._expected.file
            else:
                await self._receive_raw(request)
                expected = [*self._expected.file, *self._expected.content]
            return [await intake.publish(expected) for intake in self.intakes]
        finally:
            for intake in self.intakes:
                await intake.discard()

    async def _receive_raw(self, request: Request) -> None:
        content = self._expected.content
        intake = self._begin(self._name, [digest.algorithm for digest in content])
        async for piece in request.body:
            await intake.feed(piece)
        await intake.settle()

    async def _receive_form(self, request: Request) -> None:
        content = CheckedContent(request.body, self._expected.content)
        async for event in Form(request, content):
            if isinstance(event, FileBegins):
                if self.intakes:
                    await self.intakes[-1].put_away()
                intake = self._begin(safe_name(event.name) or None, [])
            elif event is None:
                await intake.settle()
            else:
                await intake.feed(event)
        if not self.intakes:
            raise Refusal(400, "the form has no file")
        if self._expected.file and len(self.intakes) > 1:
            raise Refusal(400, "file_hash is stated for a form of several files")

    def _begin(self, name: str | None, also: list[str]) -> Intake:
        stated = {digest.algorithm for digest in self._expected.file}
        intake = Intake(self._storage.stage(stated.union(also)), name)
        self.intakes.append(intake)
        return intake
