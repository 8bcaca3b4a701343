"""What every storage does: read this to use one, or to write a backend.

An upload is staged, then published; or, where all of it is in memory and it is SMALL, given to
`storage.publish_together` with others, and staged only where that says so:

    staged = storage.stage()
    staged.append(piece)            # for every piece, as it comes in; never blocks
    staged.hash_batch()             # both in pool threads, at the same time as each other
    staged.write_batch()            # and as append; once for each that is appended, or more
    staged.flush()                  # in one more thread, where staged.wants_flush() says so
    stored = staged.publish()       # or staged.discard()

Whatever a backend is made of, it holds to this (`tests/storage/test_contract.py` checks it):

- A blob becomes visible by one atomic step, when all of its bytes are there and hashed, and it
  never changes afterwards. Until `publish` returns a reader may or may not find it.
- When `publish` or `delete` has returned, what it did survives a power cut, if the backend was
  made to be durable.
- Uploads and deletes of one digest are linearizable between all threads and processes that use
  the storage: each takes effect at one instant between its call and its return.
- Content that is there already is compared byte by byte and never replaced: equal bytes are a
  success with `created` false, other bytes are a `Collision`.
- Memory stays O(1) in the size of a blob.
- Every call but `append` and `size` may block; all of them may be made from any thread.
- Errors of the system are OSErrors with their errno (ENOSPC, EIO, …); after one, the storage
  still serves, and nothing is left of the upload that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

from httpd.storage.digest import Digest

# In bytes: content that may be published together with others. Larger content has a flush of its
# own, as to write it twice, into a journal first, would cost more than that.
SMALL = 64 * 1024


Piece = bytes | memoryview
"""Bytes of content. A view's buffer stays as it is until they have been hashed and written."""


class NotFound(Exception):
    """The storage has no blob of that digest."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"there is no file with the hash {digest.hex}")
        self.digest = digest


class Damaged(NotFound):
    """The blob was found to be damaged, and is kept out of the way until it is stored again.

    To whoever sends the content it is as good as not there; `stamp` is the damaged copy's.
    """

    def __init__(self, digest: Digest, stamp: int) -> None:
        super().__init__(digest)
        self.args = (f"the file with the hash {digest.hex} is damaged; it is kept in quarantine",)
        self.stamp = stamp


class Collision(Exception):
    """Other bytes are stored under that digest; they stay as they were."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"other content has the hash {digest.hex} already")
        self.digest = digest


class DigestMismatch(Exception):
    """The content is not what its sender said it would be."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        super().__init__(f"expected {expected.algorithm} {expected.hex}, received {actual.hex}")
        self.expected = expected
        self.actual = actual


class Stored(NamedTuple):
    """What `publish` has done: `size` in bytes; `created` false if the blob was there before."""

    digest: Digest
    size: int
    created: bool


class Sealed(NamedTuple):
    """What is known of staged content before it is published: `size` in bytes.

    `stamp` tells this copy of the bytes from any other that was or will be stored.
    """

    digest: Digest
    size: int
    stamp: int


class Space(NamedTuple):
    """The room that a storage has, in bytes."""

    free: int  # that can still be taken
    size: int  # in all


class Blob(Protocol):
    """An open blob: stays readable until it is closed, also when it is deleted meanwhile.

    Satisfies `exchange.Source`, so that a response can be sent from it without a copy.
    """

    @property
    def digest(self) -> Digest:
        """The digest that it was opened by."""

    @property
    def size(self) -> int:
        """The length in bytes."""

    @property
    def stored_at(self) -> float:
        """When it was stored, in seconds since the epoch."""

    @property
    def stamp(self) -> int:
        """What tells this copy of the bytes from another: that of `seal`, if it was sealed."""

    def fileno(self) -> int:
        """Return a descriptor of a regular file with the blob's bytes, valid until `close`."""

    def read(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer only at the end. Raises OSError."""

    def read_now(self, length: int, offset: int) -> bytes | None:
        """Do the same without waiting for any disk; None where that cannot be. Raises OSError."""

    def reopen(self) -> Blob | None:
        """Open it once more, closed or not; None if it is not there any more. Raises OSError."""

    def close(self) -> None:
        """Let go of it. May be called again."""


class Staged(Protocol):
    """Content on its way in: seen by nobody until it is published.

    `append`, `hash_batch`, `write_batch`, `flush` may each run in a thread of its own at the same
    time; two calls of the same one wait for each other. A failure of any stays: every later call
    but `append` and `discard` raises it again, so that nothing incomplete is ever published.
    """

    @property
    def size(self) -> int:
        """The number of bytes appended."""

    def wants_flush(self) -> bool:
        """Tell whether so much is written and not flushed that to do it now pays.

        It says so once, until as much more is written: who is told is to call `flush`.
        """

    def append(self, piece: Piece) -> None:
        """Queue the content's next bytes. Never blocks, never fails.

        They are held in memory until both hashed and written: who appends waits now and then.
        """

    def hash_batch(self) -> None:
        """Hash the next batch of what is queued for it, if anything is."""

    def write_batch(self) -> None:
        """Write the next batch of what is queued for it, if anything is. Raises OSError."""

    def flush(self) -> None:
        """Bring what is written by now to disk, so that less is left to `publish`. Raises OSError.

        It may be left out: it only saves time.
        """

    def seal(self, expected: Collection[Digest] = ()) -> Sealed:
        """Work off what is pending, and stamp the content; nothing is appended after that.

        For who has to note what is about to be published. `expected` and what is raised: as for
        `publish`.
        """

    def publish(self, expected: Collection[Digest] = (), *, keep: bool = False) -> Stored:
        """Work off what is pending, make the content durable and visible; the last step.

        `expected`: digests that the content must have, each of the storage's own algorithm or
        of one that was given to `stage`. Raises DigestMismatch, Collision, OSError, and
        ValueError after `discard` or `publish`. Leaves nothing behind if it raises. With `keep`,
        content that is there already stays staged as well, and may be published again.
        """

    def unwritten(self) -> bytes | None:
        """Return the content if it is SMALL, and nothing of it is written yet."""

    def discard(self) -> None:
        """Give the content up and free what it holds. May be called again and after publish."""


class Storage(Protocol):
    """A set of blobs, each under the digest of its bytes."""

    def stage(self, also: Collection[str] = (), length: int | None = None) -> Staged:
        """Begin an upload. `also`: algorithms (keys of ALGORITHMS) of further digests to check.

        `length`: how many bytes are said to come, if that is known.
        """

    def publish_together(
        self, uploads: Sequence[tuple[bytes, Collection[Digest]]]
    ) -> Sequence[Stored | Exception | None]:
        """Publish several uploads for the price of one, as far as that pays: (content, expected).

        For each what `Staged.publish` would return or raise; or None: this one is to be staged and
        published by itself. That is so for all that is not SMALL, or not new, so a Stored has
        `created` true. Raises nothing.
        """

    def open(self, digest: Digest) -> Blob:
        """Open a blob for reading. Raises NotFound, Damaged, OSError."""

    def none_deleted(self, digest: Digest) -> Callable[[], bool] | None:
        """Return what tells, whenever it is called, that the digest was not deleted until then.

        By no process; it may tell of a deletion where there was none. None where nobody can tell.
        Neither call blocks.
        """

    def confirm(self, digest: Digest) -> Stored:
        """Make sure that a blob which can be seen is durable; as `publish` of the same bytes would.

        For a client that need not send what is here already. Raises NotFound, OSError.
        """

    def delete(self, digest: Digest) -> None:
        """Take a blob away, a damaged one as well. Raises NotFound, OSError."""

    def sweep(self) -> int:
        """Put in order what dead processes have left, and nothing of the living.

        What they have promised is made good; what they had staged is removed. Returns how many were
        staged. Raises OSError.
        """

    def close(self) -> None:
        """Bring to rest what this process has under way in the background, before it ends."""

    def check_writable(self) -> None:
        """Raise OSError if nothing can be stored now."""

    def space(self) -> Space | None:
        """Return what room there is; None where nobody can tell. Raises OSError."""
