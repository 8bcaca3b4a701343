"""Taking in an older store of files under their digests: a folder of `ab/abcdef…`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import UUID

from httpd.storage.contract import Collision, DigestMismatch, NotFound
from httpd.storage.digest import Digest, algorithms_of
from httpd.storage.listing import Entry, entries
from httpd.upkeep.copying import Copying, Original, Unreadable
from httpd.upkeep.doors import Doors
from httpd.upkeep.report import Report
from httpd.upkeep.verify import PREFIX, digest_of, part_of


class ImportByHash:
    """Copies what is not here yet. A digest stays what it is, whatever names new content here."""

    def __init__(
        self, folder: str, doors: Callable[[str], Doors], copying: Copying, report: Report
    ) -> None:
        """Take the older store, and the doors to this one for each algorithm of digests."""
        self._folder = folder
        self._doors = doors
        self._copying = copying
        self._report = report

    def run(self) -> None:
        """Import it. Raises OSError, CatalogUnavailable."""
        for prefix in entries(self._folder):
            if prefix.is_file or not PREFIX.fullmatch(prefix.name):
                self._check_stranger(prefix)
                continue
            for entry in self._list(prefix.name):
                self._take(prefix.name, entry)
                self._report.progress(part_of(entry.name))

    def _check_stranger(self, entry: Entry) -> None:
        """Report what is in the folder besides prefix folders, but nothing that was hidden."""
        if entry.name.startswith("."):
            return
        named_by_id = entry.is_file and _is_id(entry.name)
        hint = "a file by id? then say --names-from" if named_by_id else "no prefix folder"
        self._report.found("strange", entry.name, hint)

    def _list(self, prefix: str) -> Iterator[Entry]:
        try:
            yield from entries(f"{self._folder}/{prefix}")
        except OSError as error:
            self._report.found("unreadable", prefix, error.strerror or str(error))

    def _take(self, prefix: str, entry: Entry) -> None:
        subject = f"{prefix}/{entry.name}"
        if digest_of(prefix, entry) is None or not entry.is_file:
            self._report.found("strange", subject, "no blob has this name, or it is no file")
        elif self._is_here(entry.name):
            self._report.tally.counts["already there"] += 1
        else:
            try:
                with closing(Original(f"{self._folder}/{subject}")) as original:
                    self._copy(original, entry.name)
            except Unreadable as error:
                self._report.found("unreadable", subject, str(error))

    def _is_here(self, hexdigits: str) -> bool:
        # The place of a blob is its digits; which algorithm they are of makes no difference to it.
        digest = Digest(algorithms_of(hexdigits)[0], hexdigits)
        try:
            self._doors(digest.algorithm).references.keep_by_hash(digest)
        except NotFound:
            return False
        return True

    def _copy(self, original: Original, hexdigits: str) -> None:
        """Copy a file and check it on the way, by each algorithm that its name may be of."""
        reasons = []
        for algorithm in algorithms_of(hexdigits):
            storage, references = self._doors(algorithm)
            staged = self._copying.stage(original, storage)
            try:
                references.store_by_hash(staged, [Digest(algorithm, hexdigits)])
            except DigestMismatch as error:
                reasons.append(f"{algorithm} {error.actual.hex}")
            except Collision as error:
                self._report.found("collision", hexdigits, str(error))
                return
            else:
                self._report.tally.counts["imported"] += 1
                return
        self._report.found("mismatch", hexdigits, f"its bytes have {' or '.join(reasons)}")


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name.lower()
    except ValueError:
        return False
