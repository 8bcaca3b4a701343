"""A big body on its way through the buffers of its upload."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from httpd.app.intake import Incoming, Intake
from httpd.app.shares import AT_ONCE, FIRST, LARGEST, MEMORY, SMALLEST, Shares
from httpd.exchange import Disconnected
from httpd.server.loop import Loop
from httpd.storage.contract import Staged
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from httpd.storage.staging import FLUSH_EVERY
from httpd.traps import pause
from tests.daemons import PATIENCE
from tests.server.conftest import made_loop, turn_until


class Source:
    """A body whose content is nowhere the same; of unknown length unless that is told."""

    def __init__(self, size: int, *, length: int | None = None, ends: int | None = None) -> None:
        """`ends`: after so many bytes the client is gone."""
        self.content = Random(size).randbytes(size)
        self.length = length
        self.given = 0
        self._ends = ends
        self._sizes = Random(1)

    async def readinto(self, buffer: memoryview) -> int:
        if self.given == self._ends:
            raise Disconnected
        # As a socket has it: any number of bytes at once.
        size = min(self._sizes.randint(1, 300_000), len(buffer))
        piece = self.content[self.given : min(self.given + size, self._ends or len(self.content))]
        buffer[: len(piece)] = piece
        self.given += len(piece)
        return len(piece)

    async def read(self, most: int) -> bytes | None:
        raise AssertionError(f"this is more than {most} bytes")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for place in range(0, len(self.content), 50_000):
            yield self.content[place : place + 50_000]


class Gated:
    """Holds up one of the calls of what is staged, until its gate opens."""

    def __init__(self, staged: Staged, call: str) -> None:
        self.gate = Event()
        work: Callable[[], None] = getattr(staged, call)

        def wait_and_work() -> None:
            assert self.gate.wait(PATIENCE)
            work()

        setattr(staged, call, wait_and_work)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[LocalStorage]:
    storage = LocalStorage(tmp_path / "store", "md5", durable=True)
    yield storage
    storage.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    yield from made_loop()


def intake_of(staged: Staged, shares: Shares | None = None) -> Intake:
    return Intake(staged, Incoming(None, None), shares or Shares(workers=1, cores=2))


def spawned(loop: Loop, intake: Intake, body: Source) -> list[Any]:
    """Take in a body on the loop; return where the end of it is noted, None or an error."""
    ended: list[Any] = []

    async def take_in() -> None:
        try:
            await intake.drain(body)
            await intake.settle()
            ended.append(None)
        except Exception as error:
            ended.append(error)

    loop.spawn(take_in())
    return ended


def stored(storage: LocalStorage, content: bytes) -> bytes:
    blob = storage.open(Digest("md5", hashlib.md5(content).hexdigest()))
    try:
        return blob.read(blob.size, 0)
    finally:
        blob.close()


def rest(loop: Loop) -> None:
    """Let the loop turn for long enough that what could happen has happened."""
    over: list[bool] = []

    async def wait() -> None:
        await pause(loop.now + 0.2)
        over.append(True)

    loop.spawn(wait())
    turn_until(loop, lambda: over)


@pytest.mark.parametrize("call", ["hash_batch", "write_batch"])
def test_a_buffer_waits_for_both_lanes(loop: Loop, storage: LocalStorage, call: str) -> None:
    """Refilled any earlier, a buffer gives the slower lane the bytes of a later piece."""
    body, staged = Source(20 * LARGEST + 12_345), storage.stage()
    slow = Gated(staged, call)
    ended = spawned(loop, intake_of(staged), body)
    turn_until(loop, lambda: body.given == AT_ONCE * FIRST)
    rest(loop)
    assert (body.given, ended) == (AT_ONCE * FIRST, [])
    slow.gate.set()
    turn_until(loop, lambda: ended)
    assert ended == [None]
    assert staged.publish().size == len(body.content)
    assert stored(storage, body.content) == body.content


def test_a_slow_disk_holds_the_sender_up_by_its_second_flush(
    loop: Loop, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, gate = os.fdatasync, Event()

    def slow_flush(descriptor: int) -> None:
        assert gate.wait(PATIENCE)
        flush(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow_flush)
    body, staged = Source(3 * FLUSH_EVERY), storage.stage()
    ended = spawned(loop, intake_of(staged), body)
    turn_until(loop, lambda: body.given >= 2 * FLUSH_EVERY)
    rest(loop)
    # It is asked with each buffer that is handed over; since the last one all under way may have
    # been written at once, before either flush, and after that they are taken again.
    assert body.given <= 2 * FLUSH_EVERY + 3 * AT_ONCE * LARGEST < len(body.content)
    gate.set()
    turn_until(loop, lambda: ended)
    assert ended == [None]
    staged.publish()
    assert stored(storage, body.content) == body.content


@pytest.mark.parametrize(
    "size",
    [0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1, LARGEST, 3 * LARGEST, 4 * LARGEST + 1],
)  # fmt: skip
@pytest.mark.parametrize("known", [True, False], ids=["length", "chunked"])
def test_all_bytes_of_a_body_are_taken(
    loop: Loop, storage: LocalStorage, size: int, *, known: bool
) -> None:
    body, staged = Source(size, length=size if known else None), storage.stage()
    ended = spawned(loop, intake_of(staged), body)
    turn_until(loop, lambda: ended)
    assert ended == [None]
    assert staged.publish().size == size
    assert stored(storage, body.content) == body.content


def test_a_client_that_goes_leaves_the_lanes_their_buffers(
    loop: Loop, storage: LocalStorage
) -> None:
    """What is still hashed when an upload ends is nobody else's memory."""
    body, staged, buffers = Source(9 * LARGEST, ends=2 * FIRST), storage.stage(), Shares(1, 2)
    slow = Gated(staged, "hash_batch")
    seen: list[bytes] = []
    staged._hash = lambda batch: seen.append(bytes(batch))  # type: ignore[method-assign]
    ended = spawned(loop, intake_of(staged, buffers), body)
    turn_until(loop, lambda: ended)
    assert isinstance(ended[0], Disconnected)
    next_body, next_staged = Source(8 * LARGEST + 1), storage.stage()
    ended = spawned(loop, intake_of(next_staged, buffers), next_body)
    turn_until(loop, lambda: ended)
    slow.gate.set()
    turn_until(loop, lambda: len(seen) == 2)
    assert b"".join(seen) == body.content[: 2 * FIRST]
    staged.discard()
    assert next_staged.publish().size == len(next_body.content)
    assert stored(storage, next_body.content) == next_body.content


def test_a_write_that_fails_ends_the_upload_when_the_hash_is_done(
    loop: Loop, storage: LocalStorage
) -> None:
    body, staged = Source(9 * LARGEST), storage.stage()
    slow = Gated(staged, "hash_batch")
    intake = intake_of(staged)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FIRST + 1, hard))
    try:
        ended = spawned(loop, intake, body)
        turn_until(loop, lambda: staged._failure)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    slow.gate.set()
    turn_until(loop, lambda: ended)
    assert (type(ended[0]), ended[0].errno) == (OSError, errno.EFBIG)
    with pytest.raises(OSError, match="too large"):
        staged.publish()
    assert storage.sweep() == 0


# The cores that hash


def test_no_more_uploads_are_hashed_at_once_than_there_are_cores(
    loop: Loop, storage: LocalStorage
) -> None:
    """And no fewer: every core that is free is taken."""
    shares, gate, hashing, most = Shares(workers=1, cores=2), Event(), set(), []

    def hash_of(staged: Staged) -> Callable[[], None]:
        work = staged.hash_batch

        def hash_batch() -> None:
            hashing.add(staged)
            most.append(len(hashing))
            assert gate.wait(PATIENCE)
            work()
            hashing.discard(staged)

        return hash_batch

    bodies = [Source(4 * LARGEST + number) for number in range(4)]
    all_staged = [storage.stage() for _ in bodies]
    for staged in all_staged:
        staged.hash_batch = hash_of(staged)  # type: ignore[method-assign]
    ended = [
        spawned(loop, intake_of(staged, shares), body)
        for staged, body in zip(all_staged, bodies, strict=True)
    ]
    turn_until(loop, lambda: all(body.given == AT_ONCE * FIRST for body in bodies))
    rest(loop)
    assert len(hashing) == 2
    gate.set()
    turn_until(loop, lambda: all(ended))
    assert max(most) == 2
    for staged, body in zip(all_staged, bodies, strict=True):
        staged.publish()
        assert stored(storage, body.content) == body.content


# The sizes of buffers


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_16_uploads_take_no_more_than_the_memory(workers: int) -> None:
    most = 0
    for each in range(workers):
        buffers, uploads = Shares(workers, 1), len(range(each, 16, workers))
        with ExitStack() as stack:
            for _ in range(uploads):
                stack.enter_context(buffers.shared())
            most += uploads * AT_ONCE * len(buffers.renew(None, MEMORY))
    assert MEMORY // 3 < most <= MEMORY


def test_a_buffer_is_used_again_for_as_long_as_its_size_is_right() -> None:
    buffers = Shares(workers=1, cores=1)
    with buffers.shared():
        large = buffers.renew(None, MEMORY)
        assert len(large) == LARGEST
        assert buffers.renew(large, MEMORY) is large
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(buffers.shared())
            small = buffers.renew(large, MEMORY)
            assert len(small) == SMALLEST
        assert len(buffers.renew(small, MEMORY)) == LARGEST


def test_a_buffer_grows_with_what_has_come() -> None:
    buffers = Shares(workers=1, cores=1)
    sizes = [
        len(buffers.renew(None, kib << 10)) >> 10 for kib in (0, 1023, 2047, 2048, 3000, 1 << 20)
    ]
    assert sizes == [256, 256, 256, 512, 512, 1024]
