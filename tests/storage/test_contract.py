"""What holds for every backend in conftest.BACKENDS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from operator import methodcaller

import pytest

from httpd.storage.contract import (
    SMALL,
    Collision,
    DigestMismatch,
    NotFound,
    Staged,
    Storage,
    Stored,
)
from httpd.storage.digest import ALGORITHMS, Digest
from tests.storage.samples import (
    COLLIDING,
    COLLIDING_DIGEST,
    HELLO,
    OpenStorage,
    download,
    upload,
)

MIB = 1 << 20
CONTENTS = {
    "nothing": [],
    "an empty piece": [b""],
    "one byte": [b"\0"],
    "small pieces": [b"hel", b"lo"],
    "a batch and a byte": [b"a" * MIB, b"b"],
    "many pieces": [bytes([n]) * 65_536 for n in range(50)],
}

Work = Callable[[Staged], None]
WAYS: dict[str, list[Work]] = {
    "all left to publish": [],
    "hashed before": [methodcaller("hash_batch")],
    "written before": [methodcaller("write_batch")],
    "both before": [methodcaller("write_batch"), methodcaller("hash_batch")],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("pieces", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("created", [True, False], ids=["new", "there already"])
def test_what_is_published_can_be_read(
    storage: Storage, pieces: list[bytes], way: list[Work], *, created: bool
) -> None:
    content = b"".join(pieces)
    if not created:
        upload(storage, content)
    staged = storage.stage()
    for piece in pieces:
        staged.append(piece)
        for work in way:
            work(staged)
    stored = staged.publish()
    assert stored == (("md5", hashlib.md5(content).hexdigest()), len(content), created)
    assert download(storage, stored.digest) == content
    assert storage.sweep() == 0


def test_content_that_is_partly_written_is_compared_in_full(storage: Storage) -> None:
    upload(storage, b"hello")
    staged = storage.stage()
    staged.append(b"hel")
    staged.write_batch()
    staged.append(b"lo")
    assert staged.publish() == (HELLO, 5, False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_names_new_content(open_storage: OpenStorage, algorithm: str) -> None:
    digest = upload(open_storage(algorithm), b"hello").digest
    assert digest == (algorithm, hashlib.new(algorithm, b"hello").hexdigest())
    assert download(open_storage("md5"), digest) == b"hello"


@pytest.mark.parametrize(
    ("length", "offset", "read"),
    [(5, 0, b"hello"), (2, 1, b"el"), (9, 3, b"lo"), (1, 5, b""), (0, 0, b"")],
)
def test_a_blob_is_read_in_parts(storage: Storage, length: int, offset: int, read: bytes) -> None:
    upload(storage, b"hello")
    blob = storage.open(HELLO)
    assert (blob.digest, blob.size, blob.read(length, offset)) == (HELLO, 5, read)
    blob.close()
    blob.close()


def test_content_that_is_staged_is_seen_by_nobody(open_storage: OpenStorage) -> None:
    staged = open_storage().stage()
    staged.append(b"hello")
    staged.hash_batch()
    staged.write_batch()
    with pytest.raises(NotFound):
        open_storage().open(HELLO)
    staged.discard()


def test_a_blob_that_is_there_can_be_confirmed(storage: Storage) -> None:
    upload(storage, b"hello")
    assert storage.confirm(HELLO) == (HELLO, 5, False)


def test_a_blob_that_is_not_there_cannot_be_used(storage: Storage) -> None:
    for attempt in storage.open, storage.confirm, storage.delete:
        with pytest.raises(NotFound) as caught:
            attempt(HELLO)
        assert caught.value.digest == HELLO


def test_a_deleted_blob_is_gone_for_all_and_may_come_back(open_storage: OpenStorage) -> None:
    one, other = open_storage(), open_storage()
    assert upload(one, b"hello").created
    other.delete(HELLO)
    for attempt in one.open, one.delete:
        with pytest.raises(NotFound):
            attempt(HELLO)
    assert upload(one, b"hello").created
    assert download(other, HELLO) == b"hello"


def test_an_open_blob_outlives_its_deletion(storage: Storage) -> None:
    upload(storage, b"hello")
    blob = storage.open(HELLO)
    storage.delete(HELLO)
    assert blob.read(5, 0) == b"hello"
    blob.close()


@pytest.mark.parametrize(("first", "second"), [COLLIDING, COLLIDING[::-1]])
def test_other_bytes_of_the_same_digest_are_refused(
    storage: Storage, first: bytes, second: bytes
) -> None:
    assert first != second
    assert upload(storage, first).digest == COLLIDING_DIGEST
    with pytest.raises(Collision) as caught:
        upload(storage, second)
    assert caught.value.digest == COLLIDING_DIGEST
    assert download(storage, COLLIDING_DIGEST) == first
    assert storage.sweep() == 0


@pytest.mark.parametrize("algorithms", [["md5"], ["sha256"], ["md5", "sha1", "blake2b"]])
def test_expected_digests_are_checked(storage: Storage, algorithms: list[str]) -> None:
    staged = storage.stage(algorithms)
    staged.append(b"hello")
    expected = [Digest(name, hashlib.new(name, b"hello").hexdigest()) for name in algorithms]
    assert staged.publish(expected).digest == HELLO


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_content_of_another_digest_is_not_stored(storage: Storage, algorithm: str) -> None:
    staged = storage.stage([algorithm])
    staged.append(b"hello")
    staged.write_batch()
    actual = Digest(algorithm, hashlib.new(algorithm, b"hello").hexdigest())
    expected = Digest(algorithm, hashlib.new(algorithm, b"hallo").hexdigest())
    with pytest.raises(DigestMismatch) as caught:
        staged.publish([actual, expected])
    assert (caught.value.expected, caught.value.actual) == (expected, actual)
    with pytest.raises(NotFound):
        storage.open(HELLO)
    assert storage.sweep() == 0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_discarding_leaves_nothing(storage: Storage, way: list[Work]) -> None:
    staged = storage.stage()
    staged.append(b"hello")
    for work in way:
        work(staged)
    staged.discard()
    staged.discard()
    staged.append(b"!")
    for attempt in staged.publish, staged.hash_batch, staged.write_batch:
        with pytest.raises(ValueError, match="no longer"):
            attempt()
    with pytest.raises(NotFound):
        storage.open(HELLO)
    assert storage.sweep() == 0


def test_publishing_ends_the_staging(storage: Storage) -> None:
    staged = storage.stage()
    staged.append(b"hello")
    staged.publish()
    with pytest.raises(ValueError, match="no longer"):
        staged.publish()
    staged.discard()
    assert download(storage, HELLO) == b"hello"


def test_content_that_is_there_already_can_be_kept_staged(storage: Storage) -> None:
    """For who has to find out, after a while, whether it is there still."""
    upload(storage, b"hello")
    staged = storage.stage()
    staged.append(b"hello")
    assert not staged.publish(keep=True).created
    storage.delete(HELLO)
    assert staged.publish(keep=True).created
    with pytest.raises(ValueError, match="no longer"):
        staged.publish()


def test_a_stamp_tells_copies_of_the_same_bytes_apart(storage: Storage) -> None:
    stamps = []
    for _ in range(2):
        staged = storage.stage()
        staged.append(b"hello")
        sealed = staged.seal([HELLO])
        assert (sealed.digest, sealed.size) == (HELLO, 5)
        staged.publish()
        with closing(storage.open(HELLO)) as blob:
            assert blob.stamp == sealed.stamp
        storage.delete(HELLO)
        stamps.append(sealed.stamp)
    assert stamps[0] != stamps[1]


def test_content_of_another_digest_cannot_be_sealed(storage: Storage) -> None:
    staged = storage.stage()
    staged.append(b"hollow")
    with pytest.raises(DigestMismatch):
        staged.seal([HELLO])
    with pytest.raises(ValueError, match="no longer"):
        staged.publish()


def publish_all(storage: Storage, *contents: bytes) -> list[Stored]:
    """Publish several together, and what that leaves one by one."""
    stored = []
    outcomes = storage.publish_together([(each, ()) for each in contents])
    for content, outcome in zip(contents, outcomes, strict=True):
        assert not isinstance(outcome, Exception)
        stored.append(outcome or upload(storage, content))
    return stored


def test_uploads_are_published_together(open_storage: OpenStorage) -> None:
    one, other = open_storage(), open_storage()
    contents = [b"", b"hello", b"world", b"a" * 65_536, b"b" * 65_537, b"c" * MIB]
    for created in True, False:
        stored = publish_all(one, *contents)
        assert stored == [
            (("md5", hashlib.md5(content).hexdigest()), len(content), created)
            for content in contents
        ]
        for (digest, _, _), content in zip(stored, contents, strict=True):
            assert download(other, digest) == content
    assert one.sweep() == 0


def test_the_same_content_is_created_once_in_a_group(storage: Storage) -> None:
    stored = publish_all(storage, b"hello", b"hello", b"hello")
    assert [each.created for each in stored] == [True, False, False]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_that_fails_in_a_group_fails_alone(storage: Storage, algorithm: str) -> None:
    expected = Digest(algorithm, hashlib.new(algorithm, b"hello").hexdigest())
    uploads = [(b"bad", [expected]), (b"hello", [HELLO, expected]), (b"other", [HELLO, expected])]
    first, second, third = storage.publish_together(uploads)
    assert isinstance(first, DigestMismatch)
    assert first.expected == expected
    assert second in [(HELLO, 5, True), None]
    assert isinstance(third, DigestMismatch)
    for content in b"bad", b"other":
        with pytest.raises(NotFound):
            storage.open(Digest.of(content, "md5"))
    assert storage.sweep() == 0


def test_content_is_unwritten_while_all_of_it_is_in_memory(storage: Storage) -> None:
    staged = storage.stage()
    assert staged.unwritten() == b""
    staged.append(b"a" * SMALL)
    assert staged.unwritten() == b"a" * SMALL
    staged.append(b"b")
    assert staged.unwritten() is None
    staged.discard()
    with pytest.raises(ValueError, match="no longer"):
        staged.unwritten()


def test_content_is_not_unwritten_once_a_part_is_written(storage: Storage) -> None:
    staged = storage.stage()
    staged.append(b"hello")
    staged.write_batch()
    assert staged.unwritten() is None
    staged.discard()


def test_colliding_content_is_refused_in_a_group_as_well(storage: Storage) -> None:
    one, other = COLLIDING
    assert publish_all(storage, one)[0].created
    assert storage.publish_together([(other, ())]) == [None]
    with pytest.raises(Collision):
        upload(storage, other)
    uploads = [(each, ()) for each in (b"neither", *COLLIDING)]
    assert storage.publish_together(uploads)[1:] == [None, None]


def test_content_comes_back_by_a_group_after_its_deletion(open_storage: OpenStorage) -> None:
    one, other = open_storage(), open_storage()
    for _ in range(3):
        assert publish_all(one, b"hello")[0].created
        other.delete(HELLO)
        with pytest.raises(NotFound):
            one.open(HELLO)


def test_no_group_at_all_is_none(storage: Storage) -> None:
    assert list(storage.publish_together([])) == []


def test_receiving_hashing_and_writing_overlap_freely(storage: Storage) -> None:
    pieces = [bytes([n % 251]) * (n % 7000) for n in range(2000)]
    staged = storage.stage()

    def work_off(work: Callable[[], None]) -> None:
        while staged.size < sum(map(len, pieces)):
            work()

    with ThreadPoolExecutor(4) as pool:
        # Two of each: they wait for each other and keep the order.
        works = [staged.hash_batch, staged.write_batch] * 2
        workers = [pool.submit(work_off, work) for work in works]
        for piece in pieces:
            staged.append(piece)
        for worker in workers:
            worker.result()
    content = b"".join(pieces)
    digest = Digest("md5", hashlib.md5(content).hexdigest())
    assert staged.publish() == (digest, len(content), True)
    assert download(storage, digest) == content


def test_a_failed_write_stays_failed(storage: Storage, file_size_limit: int) -> None:
    staged = storage.stage()
    staged.append(bytes(file_size_limit + 1))
    with pytest.raises(OSError, match="too large"):
        staged.write_batch()
    for attempt in staged.write_batch, staged.hash_batch, staged.publish:
        with pytest.raises(OSError, match="too large"):
            attempt()
    staged.discard()
    assert storage.sweep() == 0
    assert upload(storage, b"hello").created


def test_publishing_what_cannot_be_written_leaves_nothing(
    storage: Storage, file_size_limit: int
) -> None:
    content = bytes(file_size_limit + 1)
    with pytest.raises(OSError, match="too large"):
        upload(storage, content)
    with pytest.raises(NotFound):
        storage.open(Digest("md5", hashlib.md5(content).hexdigest()))
    assert storage.sweep() == 0


def test_a_storage_that_is_writable_says_so_and_keeps_no_trace(storage: Storage) -> None:
    storage.check_writable()
    assert storage.sweep() == 0
