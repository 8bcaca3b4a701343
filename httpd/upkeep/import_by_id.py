"""Taking in an older store of files under ids, whose names are in a table of a database."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from uuid import UUID

from httpd.catalog.catalog import Catalog
from httpd.catalog.older import OlderNames
from httpd.catalog.rows import File
from httpd.storage.contract import Collision, Storage
from httpd.storage.digest import ALGORITHMS
from httpd.storage.listing import entries
from httpd.upkeep.copying import Copying, Original, Unreadable
from httpd.upkeep.doors import Naming
from httpd.upkeep.report import Report


class ImportById:
    """Copies what is not here yet, under the id, the name and the time that it had."""

    def __init__(
        self,
        folder: str,
        names: OlderNames,
        storage: Storage,
        catalog: Catalog,
        add: Naming,
        copying: Copying,
        report: Report,
    ) -> None:
        """Take the older store and its names; this store, its catalog, and what adds to both."""
        self._folder = folder
        self._names = names
        self._storage = storage
        self._catalog = catalog
        self._add = add
        self._copying = copying
        self._report = report

    def run(self) -> None:
        """Import it. Raises OSError, CatalogUnavailable."""
        total = len(self._names)
        for count, (file_id, name) in enumerate(self._names, start=1):
            self._take(file_id, name)
            self._report.progress(min(count / max(total, 1), 1.0))
        self._check_nameless()

    def _take(self, file_id: str, name: str) -> None:
        canonical = _canonical(file_id)
        if canonical is None:
            self._report.found("strange", file_id, f"{name}, its id is no UUID")
            return
        path = self._find(file_id, canonical)
        if path is None:
            self._report.found("missing", canonical, f"{name}, there is no such file")
            return
        try:
            with closing(Original(path)) as original:
                self._copy(original, canonical, name)
        except Unreadable as error:
            self._report.found("unreadable", canonical, f"{name}, {error}")

    def _find(self, file_id: str, canonical: str) -> str | None:
        """Return the path of a file: databases and programs write one id in several ways."""
        written = dict.fromkeys((canonical, canonical.replace("-", ""), canonical.upper()))
        for name in written:
            path = f"{self._folder}/{name}"
            if os.path.lexists(path):
                return path
        return None

    def _copy(self, original: Original, file_id: str, name: str) -> None:
        known = self._catalog.find(file_id)
        if known is not None:
            self._compare(original, known)
            return
        staged = self._copying.stage(original, self._storage)
        try:
            self._add(staged, file_id, name, original.changed_at)
        except Collision as error:
            self._report.found("collision", file_id, f"{name}, {error}")
        except ValueError as error:  # another import was faster
            self._report.found("taken", file_id, f"{name}, {error}")
        else:
            self._report.tally.counts["imported"] += 1

    def _compare(self, original: Original, known: File) -> None:
        running = ALGORITHMS[known.algorithm].begin()
        for piece in self._copying.read(original):
            running.update(piece)
        if running.hexdigest() == known.digest:
            self._report.tally.counts["already there"] += 1
        else:
            self._report.found("taken", known.id, f"{known.name}, has other content here")

    def _check_nameless(self) -> None:
        """Report the files by id that were not imported."""
        for entry in entries(self._folder):
            canonical = _canonical(entry.name)
            if canonical is not None and self._catalog.find(canonical) is None:
                self._report.found("left", entry.name, "it has no name, or could not be imported")


def _canonical(text: str) -> str | None:
    """Return a UUID in its canonical form, None where the text is none."""
    with suppress(ValueError):
        return str(UUID(text))
    return None
