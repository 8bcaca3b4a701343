"""Checking the catalog against the store: names without content, content that lost its name."""

from __future__ import annotations

from httpd.catalog.catalog import Catalog
from httpd.catalog.rows import File
from httpd.storage.contract import Damaged, NotFound, Storage
from httpd.storage.digest import Digest
from httpd.upkeep.doors import References
from httpd.upkeep.report import Report


class NameCheck:
    """A check of everything in a catalog. Raises CatalogUnavailable, OSError."""

    def __init__(
        self,
        storage: Storage,
        catalog: Catalog,
        references: References,
        report: Report,
        *,
        repair: bool,
    ) -> None:
        """Take what is compared, who can tell more of it, and whom to tell; `repair` at once."""
        self._storage = storage
        self._catalog = catalog
        self._references = references
        self._report = report
        self._repair = repair

    def run(self) -> None:
        """Check it."""
        for row in self._catalog.unreferenced():
            self._check_orphan(Digest(row.algorithm, row.digest))
        for file in self._catalog.files():
            self._check_file(file)

    def _check_orphan(self, digest: Digest) -> None:
        # Without the lock it was perhaps an upload on its way.
        if self._references.is_orphan(digest):
            if self._repair:
                self._references.free_orphan(digest)
            detail = "an upload that was never acknowledged"
            self._report.found("orphan", digest.hex, detail, repaired=self._repair)

    def _check_file(self, file: File) -> None:
        self._report.tally.counts["names"] += 1
        try:
            self._storage.open(Digest(file.algorithm, file.digest)).close()
        except NotFound as error:
            if self._references.lacks_content(file):
                state = "in quarantine" if isinstance(error, Damaged) else "missing"
                detail = f"{file.name}, its content {file.digest} is {state}"
                self._report.found("missing", file.id, detail)
        except OSError:
            pass  # it is there, and its blob was reported
