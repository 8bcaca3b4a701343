"""Uploads on their way from a body into the storage."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from httpd.app.expected import CheckedContent, Expected
from httpd.app.form import FileBegins, Form, is_form
from httpd.app.shares import AT_ONCE, Shares
from httpd.exchange import Body, Fields, Refusal, Request
from httpd.protocol.disposition import filename_of, safe_name
from httpd.storage.contract import Piece, Staged, Storage
from httpd.storage.digest import Digest
from httpd.traps import Job, Lane, in_pool, start

T = TypeVar("T")

# What is handed to the pool at once. Less, and handing it over costs more than the work; content
# below it is hashed and written by the one call that publishes it.
BATCH = 128 * 1024


class Batch(NamedTuple):
    """What is handed over to the pool."""

    buffer: memoryview | None  # where it is, if that can be used again
    hashed: Job[None]
    written: Job[None]

    def is_done(self) -> bool:
        """Tell whether nobody uses the buffer any more."""
        return self.hashed.done and self.written.done


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

    def __init__(self, staged: Staged, incoming: Incoming, shares: Shares) -> None:
        """Take the staged blob, what its sender says of it, and what big ones share."""
        self._staged = staged
        self._shares = shares
        self._incoming = incoming
        self._kept = False
        self._batch = bytearray()
        self._free: memoryview | None = None  # a buffer that nobody uses
        self._under_way: deque[Batch] = deque()
        # Hashing a piece takes longer than writing it, and what hashes the whole file in a row is
        # as fast as md5sum is. It is chosen anew whenever nothing is to be hashed.
        self._hashing: Lane
        self._writing = Lane()
        self._flush: Job[None] | None = None

    async def drain(self, body: Body) -> None:
        """Take all of a body; wait where the storage does not keep up."""
        if body.length is not None and body.length < BATCH:
            async for piece in body:
                await self.feed(piece)
            return
        with self._shares.shared():
            while True:
                buffer, self._free = self._shares.renew(self._free, self._staged.size), None
                content = await _fill(buffer, body)
                if len(content) >= BATCH:
                    await self._hand_over(content, buffer)
                else:
                    self._staged.append(content)
                if len(content) < len(buffer):
                    return

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
        while self._under_way:
            await self._worked_off()
        if self._flush is not None:
            await self._flush

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

    async def _hand_over(self, content: Piece, buffer: memoryview | None = None) -> None:
        staged = self._staged
        staged.append(content)
        if not self._under_way or self._under_way[-1].hashed.done:
            self._hashing = self._shares.hashing()
        hashed = await start(staged.hash_batch, lane=self._hashing)
        written = await start(staged.write_batch, lane=self._writing)
        self._under_way.append(Batch(buffer, hashed, written))
        if staged.wants_flush():
            if self._flush is not None:
                await self._flush
            self._flush = await start(staged.flush)
        # One that is done without a wait is let go of, or a slow sender would keep all buffers.
        while self._under_way and (len(self._under_way) >= AT_ONCE or self._under_way[0].is_done()):
            await self._worked_off()

    async def _worked_off(self) -> None:
        """Wait until the first batch is hashed and written: only then its buffer is free."""
        batch = self._under_way.popleft()
        await batch.hashed
        await batch.written
        self._free = batch.buffer

    def _take_batch(self) -> bytes:
        batch = bytes(self._batch)
        self._batch.clear()
        return batch


async def _fill(buffer: memoryview, body: Body) -> memoryview:
    """Receive into `buffer` until it is full, or the body ends; return what is in it."""
    filled = 0
    while filled < len(buffer) and (received := await body.readinto(buffer[filled:])):
        filled += received
    return buffer[:filled]


class Upload:
    """All files of one request: every one of them is stored, or none is begun to be."""

    def __init__(
        self,
        storage: Storage,
        shares: Shares,
        expected: Expected,
        raw: Incoming,
        begin: bytes | None = None,
    ) -> None:
        """Take the storage, what big uploads share, and the stated digests.

        Of a raw body, `raw` is what is said of its file, `begin` what has been read of it already.
        """
        self._storage = storage
        self._shares = shares
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
        also = [digest.algorithm for digest in content]
        intake = self._begin(self._raw, also, request.body.length)
        if self._read:
            await intake.feed(self._read)
        else:
            await intake.drain(request.body)
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

    def _begin(self, incoming: Incoming, also: list[str], length: int | None = None) -> Intake:
        stated = {digest.algorithm for digest in self._expected.file}
        staged = self._storage.stage(stated.union(also), length)
        intake = Intake(staged, incoming, self._shares)
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
