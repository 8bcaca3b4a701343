"""Who refers to which content: where the two front doors meet.

Content that came in by hash stays until it is deleted by hash; content that came in with a name
goes with its last name. New content by hash costs no database: a blob without a row in the catalog
is stored by hash. Everything else about a digest happens under the catalog's lock on it, so that
uploads and deletes of both doors take effect one after the other on all workers.

A crash leaves at worst an orphan, a row and content without a name, never a name without content:
an upload notes the digest, publishes the blob, then adds the name; a delete takes the name away
before the content. And nothing is freed but the very copy that came in with a name, told by its
stamp: another copy was put there by somebody who has been promised that it stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.rows import BlobRow, File
from httpd.storage.contract import Damaged, NotFound, Sealed, Staged, Storage, Stored
from httpd.storage.digest import Digest

if TYPE_CHECKING:
    from httpd.catalog.catalog import Catalog

# In place of a stamp where the content is none of ours: no copy has it.
NO_STAMP = 0


class UnknownFile(Exception):
    """No file has this id."""

    def __init__(self, file_id: str) -> None:
        """Take the id."""
        super().__init__(f"there is no file with the id {file_id}")


class InUse(Exception):
    """Named files use the content."""

    def __init__(self, digest: Digest, count: int) -> None:
        """Take the content's digest, and how many names it has."""
        names = "a named file uses" if count == 1 else f"{count} named files use"
        super().__init__(f"{names} the content with the hash {digest.hex}")


class Named(NamedTuple):
    """A file that was given an id; `created` as in `Stored`."""

    file: File
    created: bool


class Origin(NamedTuple):
    """Where a file comes from that was named elsewhere: its canonical id, its time in UTC."""

    id: str
    created_at: datetime


class References:
    """The storage and the catalog as one. Every call blocks, and may be made from any thread.

    Raises OSError and CatalogUnavailable besides what is said.
    """

    def __init__(self, storage: Storage, catalog: Catalog) -> None:
        """Take both."""
        self._storage = storage
        self._catalog = catalog

    def store_by_hash(self, staged: Staged, expected: Collection[Digest]) -> Stored:
        """Publish content that stays until it is deleted by hash; raise as `publish` does."""
        stored = staged.publish(expected, keep=True)
        if stored.created:
            return stored
        with self._catalog.locked(stored.digest.hex):
            self._catalog.mark_stored_by_hash(stored.digest.hex)
            # Until the lock was ours, its last name may have gone and the content with it.
            return staged.publish(expected)

    def keep_by_hash(self, digest: Digest) -> Stored:
        """Do the same for content that is here and need not be sent. Raises NotFound."""
        with self._catalog.locked(digest.hex):
            stored = self._storage.confirm(digest)
            self._catalog.mark_stored_by_hash(digest.hex)
            return stored

    def delete_by_hash(self, digest: Digest) -> None:
        """Free content that no name refers to. Raises NotFound, InUse."""
        try:
            with self._catalog.locked(digest.hex):
                names = self._catalog.references(digest.hex)
                if names:
                    raise InUse(digest, names)
                self._storage.delete(digest)
                self._catalog.forget(digest.hex)
        except CatalogUnavailable:
            # A store that was used by hash alone has no catalog, and may be too full to make one:
            # what makes room must not need any. Without a catalog there are no names.
            if not self._delete_unnamed(digest):
                raise

    def _delete_unnamed(self, digest: Digest) -> bool:
        """Free content where there has never been a name; false where there is a catalog."""
        with self._catalog.unmade() as unmade:
            if unmade:
                self._storage.delete(digest)
            return unmade

    def store_by_id(
        self,
        staged: Staged,
        expected: Collection[Digest],
        name: str | None,
        kind: str,
        origin: Origin | None = None,
    ) -> Named:
        """Publish content under a new id; raise as `publish` does. `kind`: its media type.

        `origin`: the id and the time that it had elsewhere; ValueError where the id is taken.
        """
        sealed = staged.seal(expected)
        return self._add_name(sealed, staged.publish, name, kind, origin)

    def name_by_id(self, digest: Digest, name: str | None, kind: str) -> Named:
        """Give content that is here, and need not be sent, a new id. Raises NotFound."""
        with closing(self._storage.open(digest)) as blob:
            here = Sealed(digest, blob.size, NO_STAMP)
        return self._add_name(here, lambda: self._storage.confirm(digest), name, kind)

    def find(self, file_id: str) -> File:
        """Return the file of that id. Raises UnknownFile."""
        file = self._catalog.find(file_id)
        if file is None:
            raise UnknownFile(file_id)
        return file

    def delete_by_id(self, file_id: str) -> None:
        """Take a name away, and with the last one its content. Raises UnknownFile."""
        digest = digest_of(self.find(file_id))
        with self._catalog.locked(digest.hex):
            if self._catalog.remove(file_id) is None:
                raise UnknownFile(file_id)  # another was faster
            self._free_if_unused(digest)

    def free_orphan(self, digest: Digest) -> bool:
        """Free what an upload has left that was never acknowledged; tell whether there was any."""
        with self._catalog.locked(digest.hex):
            return self._free_if_unused(digest)

    def is_orphan(self, digest: Digest) -> bool:
        """Tell whether an upload has left something that was never acknowledged."""
        with self._catalog.locked(digest.hex):
            row = self._catalog.blob(digest.hex)
            return row is not None and not self._is_wanted(row)

    def lacks_content(self, file: File) -> bool:
        """Tell whether there is such a name, and its content is not there."""
        with self._catalog.locked(file.digest):
            return self._catalog.find(file.id) is not None and not self._is_here(digest_of(file))

    def _add_name(
        self,
        sealed: Sealed,
        publish: Callable[[], Stored],
        name: str | None,
        kind: str,
        origin: Origin | None = None,
    ) -> Named:
        algorithm, hexdigits = digest = sealed.digest
        file_id, now = origin or Origin(str(uuid.uuid4()), datetime.now(UTC))
        file = File(file_id, algorithm, hexdigits, kind, name or file_id, sealed.size, now)
        with self._catalog.locked(hexdigits):
            row = self._current_row(digest)
            known = row is not None and (self._is_wanted(row) or self._is_own(digest, row))
            if not known:
                self._catalog.note(hexdigits, algorithm, sealed.size, str(sealed.stamp))
            stored = publish()
            # Content that is there, and that no name has brought, was brought by its hash.
            by_hash = True if not known and not stored.created else None
            self._catalog.add(file, stored_by_hash=by_hash)
        return Named(file, stored.created)

    def _current_row(self, digest: Digest) -> BlobRow | None:
        """Return what is known of a content, and forget what is known of one that has gone.

        A delete by hash that a crash has cut off leaves a row behind, by which content that comes
        in with a name would have been stored by its hash as well, and never go.
        """
        row = self._catalog.blob(digest.hex)
        if row is None or not row.stored_by_hash or self._catalog.references(digest.hex):
            return row
        try:
            self._storage.open(digest).close()
        except Damaged:
            return row
        except NotFound:
            self._catalog.forget(digest.hex)
            return None
        return row

    def _free_if_unused(self, digest: Digest) -> bool:
        row = self._catalog.blob(digest.hex)
        if row is None or self._is_wanted(row):
            return False
        own = self._is_own(digest, row)
        if own:
            self._storage.delete(digest)
        self._catalog.forget(digest.hex)
        return own

    def _is_wanted(self, row: BlobRow) -> bool:
        """Tell whether a name or an upload by hash keeps the content of that row."""
        return row.stored_by_hash or self._catalog.references(row.digest) > 0

    def _is_here(self, digest: Digest) -> bool:
        try:
            self._storage.open(digest).close()
        except NotFound:
            return False
        return True

    def _is_own(self, digest: Digest, row: BlobRow) -> bool:
        """Tell whether the content that is there is the copy that the row was noted for."""
        try:
            with closing(self._storage.open(digest)) as blob:
                return str(blob.stamp) == row.token
        except Damaged as error:  # what nobody can read any more is freed like the rest
            return str(error.stamp) == row.token
        except NotFound:
            return False


def digest_of(file: File) -> Digest:
    """Return the digest of a file's content."""
    return Digest(file.algorithm, file.digest)
