"""Checking a store while it is in use, and repairing it.

Uploads and deletes go on meanwhile. So nothing is judged by one look: what seems to be wrong is
looked at again where nobody can change it, and what has gone or changed since is no fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

from httpd.storage.blob import LocalBlob
from httpd.storage.contract import Damaged, NotFound
from httpd.storage.digest import ALGORITHMS, BadDigest, Digest, algorithms_of
from httpd.storage.listing import Entry
from httpd.storage.local import LocalStorage
from httpd.upkeep.pace import Pace
from httpd.upkeep.position import Bookmark, Position
from httpd.upkeep.report import Report

PREFIX = re.compile(r"[0-9a-f]{2}")
# In a store's root: what begins with a dot is the store's own, and a file system's root has this.
NOT_OURS = "lost+found"
# Read at once: large enough to keep a disk streaming, and small beside everything else.
PIECE = 1 << 20


class Verify:
    """A check of everything in the folders of a store. Raises OSError."""

    def __init__(
        self, storage: LocalStorage, bookmark: Bookmark, report: Report, pace: Pace, *, repair: bool
    ) -> None:
        """Take the store, where the check keeps its place, and whom it tells; `repair` at once."""
        self._storage = storage
        self._bookmark = bookmark
        self._report = report
        self._pace = pace
        self._repair = repair

    def run(self, *, anew: bool) -> None:
        """Check it, from where an interrupted check has come to, or `anew`."""
        start = position = self._start(anew=anew)
        try:
            for position in self._check_folders(start):
                self._report.progress(part_of(position.name))
                if self._bookmark.is_due:
                    self._save(position)
        except KeyboardInterrupt:
            self._save(position)
            raise
        # What follows takes a moment: an interruption repeats it, so nothing of it is saved.
        self._check_staging()
        self._check_quarantine()

    def finish(self) -> None:
        """Forget where the check has come to."""
        self._bookmark.remove()

    def _start(self, *, anew: bool) -> Position:
        earlier = None if anew else self._bookmark.load()
        if earlier is None:
            return Position()
        position, tally = earlier
        self._report.go_on(tally)
        return position

    def _save(self, position: Position) -> None:
        self._report.clock()
        self._bookmark.save(position, self._report.tally)

    def _check_folders(self, after: Position) -> Iterator[Position]:
        for prefix, _ in self._list():
            if prefix < after.folder or prefix.startswith(".") or prefix == NOT_OURS:
                continue
            if not PREFIX.fullmatch(prefix):
                self._report.found("strange", prefix, "no folder of this name belongs here")
                continue
            yield from self._check_folder(prefix, after.name if prefix == after.folder else "")

    def _check_folder(self, prefix: str, after: str) -> Iterator[Position]:
        is_empty = not after
        for entry in self._list(prefix, after):
            is_empty = False
            self._check_entry(prefix, entry)
            yield Position(prefix, entry.name)
        if is_empty and self._storage.forsaken(prefix, remove=self._repair):
            self._report.found("empty", prefix, "an empty folder", repaired=self._repair)

    def _list(self, folder: str = "", after: str = "") -> Iterator[Entry]:
        """List a folder; report it where that cannot be done."""
        try:
            yield from self._storage.entries(folder, after)
        except NotADirectoryError:
            self._report.found("strange", folder, "not a folder")
        except OSError as error:
            self._report.found("unreadable", folder or ".", error.strerror or str(error))

    def _check_entry(self, prefix: str, entry: Entry) -> None:
        digest = digest_of(prefix, entry)
        if digest is None:
            self._report.found("strange", f"{prefix}/{entry.name}", "no blob has this name")
        elif not entry.is_file:
            self._report.found("strange", f"{prefix}/{entry.name}", "not a regular file")
        else:
            self._check_blob(digest)

    def _check_blob(self, digest: Digest) -> None:
        try:
            blob = self._storage.open(digest)
        except NotFound:
            return  # deleted since
        except OSError as error:
            self._unreadable(digest, error)
            return
        with closing(blob):
            try:
                actual = self._hash(blob)
            except OSError as error:
                self._unreadable(digest, error)
                return
            if digest.hex not in actual.values():
                self._damaged(blob, actual)

    def _unreadable(self, digest: Digest, error: OSError) -> None:
        self._report.found("unreadable", digest.hex, error.strerror or str(error))

    def _hash(self, blob: LocalBlob) -> dict[str, str]:
        """Return the hex digests of a blob's bytes by the algorithms that may have named it.

        It is counted when it was read to its end. Raises OSError.
        """
        running = {name: ALGORITHMS[name].begin() for name in algorithms_of(blob.digest.hex)}
        offset = 0
        while piece := blob.read(PIECE, offset):
            for each in running.values():
                each.update(piece)
            offset += len(piece)
            self._pace.spend(len(piece))
        self._report.tally.counts.update(blobs=1, bytes=offset)
        return {name: each.hexdigest() for name, each in running.items()}

    def _damaged(self, blob: LocalBlob, actual: dict[str, str]) -> None:
        """Report a blob, unless it has been deleted, or somebody has only been copying it here."""
        look_again = self._storage.quarantine if self._repair else self._storage.holds
        if look_again(blob):
            detail = " or ".join(f"{name} {digest}" for name, digest in actual.items())
            self._report.found(
                "damaged", blob.digest.hex, f"its bytes have {detail}", repaired=self._repair
            )

    def _check_staging(self) -> None:
        for name, size in self._storage.abandoned(remove=self._repair):
            if size:  # else its upload may have begun this moment
                self._report.found(
                    "abandoned", f".tmp/{name}", f"{size} bytes", repaired=self._repair
                )

    def _check_quarantine(self) -> None:
        for name, _ in self._storage.quarantined():
            digest = digest_of(name[:2], Entry(name, is_file=True))
            if digest is not None and self._is_damaged(digest):
                self._report.found("quarantined", name, "store it again, or delete it")

    def _is_damaged(self, digest: Digest) -> bool:
        try:
            self._storage.open(digest).close()
        except Damaged:
            return True
        except (NotFound, OSError):  # deleted since; or stored again, and told of already
            pass
        return False


def digest_of(prefix: str, entry: Entry) -> Digest | None:
    """Return the digest that a name in a prefix folder is, None where it is none."""
    try:
        digest = Digest.parse(entry.name, preferred="")
    except BadDigest:
        return None
    return digest if digest.hex == entry.name and entry.name.startswith(prefix) else None


def part_of(hexdigits: str) -> float:
    """Return how far a digest is on the way from the first possible one to the last, 0 to 1.

    Digests are spread evenly: who goes through them in order has done this part of the work.
    """
    try:
        return int(hexdigits[:4], 16) / 0x10000
    except ValueError:  # no digest
        return 0.0
