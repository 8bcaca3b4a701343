"""Group commit: small uploads that arrive together share one flush, that of a journal.

    1. the new ones among them are appended to the journal, and flushed all at once
    2. each becomes a file under its name, as any blob is, but without a flush of its own
    3. they are acknowledged

Their files come to disk when the journal is settled, in the background; until then a crash is what
the journal is there for. A single upload waits for nobody: it is a group of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from httpd import metrics
from httpd.storage.contract import SMALL, DigestMismatch, Stored
from httpd.storage.deletions import Deletions
from httpd.storage.digest import Digest
from httpd.storage.folders import Folders, is_there
from httpd.storage.journal import Journal
from httpd.storage.rotation import Rotation
from httpd.storage.staging import TempFile


@dataclass(slots=True)
class _Upload:
    """An upload of a group that is new."""

    digest: Digest
    content: bytes
    deletions: int | None  # the number of its deletions before it was in the journal
    named: bool = False  # has become the file of that digest


class GroupCommit:
    """The commits of one process. Made before a fork, used after it."""

    def __init__(
        self,
        folders: Folders,
        algorithm: str,
        rotation: Rotation,
        deletions: Deletions,
        staging: str,
        drop_damaged: Callable[[Digest], object],
    ) -> None:
        """Take the store's parts, its algorithm, and its folder for temporary files.

        `drop_damaged` removes the damaged copy of a blob when there is a good one.
        """
        self._folders = folders
        self._algorithm = algorithm
        self._rotation = rotation
        self._deletions = deletions
        self._staging = staging
        self._drop_damaged = drop_damaged

    def publish(
        self, uploads: Sequence[tuple[bytes, Collection[Digest]]]
    ) -> list[Stored | Exception | None]:
        """Publish what is new and small of (content, expected digests); None for all else.

        Raises nothing: the errors of one are nobody else's.
        """
        outcomes: list[Stored | Exception | None] = [None] * len(uploads)
        new: dict[int, _Upload] = {}
        digests = set()
        for number, (content, expected) in enumerate(uploads):
            try:
                upload = self._examine(content, expected)
            except Exception as error:
                outcomes[number] = error
                continue
            if upload is not None and upload.digest.hex not in digests:
                digests.add(upload.digest.hex)
                new[number] = upload
        for number, outcome in zip(new, self._commit(list(new.values())), strict=True):
            outcomes[number] = outcome
        return outcomes

    def _examine(self, content: bytes, expected: Collection[Digest]) -> _Upload | None:
        """Hash an upload; None if it is not small, or not new. Raises DigestMismatch."""
        if len(content) > SMALL:
            return None
        digest = Digest.of(content, self._algorithm)
        for each in expected:
            own = each.algorithm == self._algorithm
            actual = digest if own else Digest.of(content, each.algorithm)
            if actual != each:
                raise DigestMismatch(each, actual)
        # Before the journal is written: see _show.
        deletions = self._deletions.seen(digest)
        if self._is_taken(digest) or (deletions is None and self._folders.durable):
            return None
        return _Upload(digest, content, deletions)

    def _commit(self, new: list[_Upload]) -> list[Stored | Exception | None]:
        if not new:
            return []
        if not self._folders.durable:
            return [self._show(upload) for upload in new]
        with self._rotation.journal() as journal:
            if journal is None:
                return [None] * len(new)
            try:
                offsets = journal.write([(upload.digest, upload.content) for upload in new])
            except OSError:
                return [None] * len(new)  # each by itself will tell what the matter is
            try:
                journal.flush(offsets)
            except OSError as error:
                # None of the group is acknowledged, and none is flushed once more: after a failed
                # flush the kernel takes pages for clean that never came to disk (fsync(2)).
                return [OSError(error.errno, error.strerror) for _ in new]
            return [
                self._show_or_void(upload, journal, offset)
                for upload, offset in zip(new, offsets, strict=True)
            ]

    def _show_or_void(
        self, upload: _Upload, journal: Journal, offset: int
    ) -> Stored | Exception | None:
        outcome = self._show(upload)
        if not upload.named:
            # What is there, if anything, is another's, and may be other bytes: nothing must come
            # out of the journal in its place. If this fails, it may, where nothing else is there:
            # who was told of a failure, and not of a refusal, cannot know what is there.
            with suppress(OSError):
                journal.void(offset)
        return outcome

    def _show(self, upload: _Upload) -> Stored | Exception | None:
        """Make content visible under its name; None if others were faster."""
        try:
            file = TempFile(self._staging)
            try:
                file.write(upload.content)
                if not self._name(file, upload):
                    return None
            finally:
                file.discard()
            self._drop_damaged(upload.digest)  # only now that the good one is on disk
        except OSError as error:
            return error
        return Stored(upload.digest, len(upload.content), created=True)

    def _name(self, file: TempFile, upload: _Upload) -> bool:
        digest = upload.digest
        with self._folders.locked(digest.hex[:2], create=True) as folder:
            # Who has deleted it since the record was written may have voided the record.
            if self._deletions.seen(digest) != upload.deletions or self._is_taken(digest):
                return False
            with self._folders.emptied_on_failure(digest.hex[:2]):
                file.rename(digest.hex, folder)
            upload.named = True
            metrics.blob_added(digest.hex, len(upload.content))
            return True

    def _is_taken(self, digest: Digest) -> bool:
        return is_there(f"{self._folders.root}/{digest.hex[:2]}/{digest.hex}")
