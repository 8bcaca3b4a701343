"""Group commit: small uploads that arrive together share one flush, that of a journal.

    1. the new ones among them are appended to the journal, and flushed all at once
    2. each becomes a file under its name, as any blob is, but without a flush of its own
    3. they are acknowledged

Their files come to disk when the journal is settled, in the background; until then a crash is what
the journal is there for. A single upload waits for nobody: it is a group of one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from httpd import metrics
from httpd.storage.contract import SMALL, DigestMismatch, Stored
from httpd.storage.deletions import Deletions
from httpd.storage.digest import Digest
from httpd.storage.folders import Folders, is_there
from httpd.storage.journal import Journal
from httpd.storage.quarantine import Quarantine
from httpd.storage.rotation import Rotation
from httpd.storage.staging import TempFile

Outcome = Stored | Exception | None
"""What has come of an upload; None where it is none of the group's business."""


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
        quarantine: Quarantine,
    ) -> None:
        """Take the store's parts, its algorithm, and its folder for temporary files."""
        self._folders = folders
        self._algorithm = algorithm
        self._rotation = rotation
        self._deletions = deletions
        self._staging = staging
        self._quarantine = quarantine

    def publish(self, uploads: Sequence[tuple[bytes, Collection[Digest]]]) -> list[Outcome]:
        """Publish what is new and small of (content, expected digests); None for all else.

        Raises nothing: the errors of one are nobody else's.
        """
        outcomes: list[Outcome] = [None] * len(uploads)
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
        committed = self._commit(list(new.values()))
        # One look for all of them, and not before they have their names: see Quarantine.
        heals = self._quarantine.exists()
        for (number, upload), outcome in zip(new.items(), committed, strict=True):
            outcomes[number] = self._heal(upload, outcome) if heals else outcome
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
        # Before the journal is written: see _name.
        deletions = self._deletions.seen(digest)
        if self._is_taken(digest) or (deletions is None and self._folders.durable):
            return None
        return _Upload(digest, content, deletions)

    def _commit(self, new: list[_Upload]) -> list[Outcome]:
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

    def _show_or_void(self, upload: _Upload, journal: Journal, offset: int) -> Outcome:
        outcome = self._show(upload)
        if not upload.named:
            # What is there, if anything, is another's, and may be other bytes: nothing must come
            # out of the journal in its place. If this fails, it may, where nothing else is there:
            # who was told of a failure, and not of a refusal, cannot know what is there.
            with suppress(OSError):
                journal.void(offset)
        return outcome

    def _show(self, upload: _Upload) -> Outcome:
        """Make content visible under its name; None if others were faster."""
        try:
            file = TempFile(self._staging)
            try:
                file.write(upload.content)
                self._name(file, upload)
            finally:
                file.discard()
        except OSError as error:
            return error
        return Stored(upload.digest, len(upload.content), True) if upload.named else None

    def _name(self, file: TempFile, upload: _Upload) -> None:
        """Give a file its name, unless others were faster."""
        # No context managers on this way: each takes 2 µs.
        digest, prefix = upload.digest, upload.digest.hex[:2]
        folder = self._folders.lock(prefix, create=True)
        try:
            # Who has deleted it since the record was written may have voided the record.
            if self._deletions.seen(digest) == upload.deletions and not self._is_taken(digest):
                file.rename(digest.hex, folder)
                upload.named = True
                metrics.blob_added(digest.hex, len(upload.content))
        except OSError:
            self._folders.remove_if_empty(prefix)
            raise
        finally:
            os.close(folder)

    def _heal(self, upload: _Upload, outcome: Outcome) -> Outcome:
        """Remove the damaged copy of content, only now that the good one is on disk."""
        if upload.named:
            try:
                self._quarantine.drop(upload.digest)
            except OSError as error:
                return error
        return outcome

    def _is_taken(self, digest: Digest) -> bool:
        return is_there(f"{self._folders.root}/{digest.hex[:2]}/{digest.hex}")
