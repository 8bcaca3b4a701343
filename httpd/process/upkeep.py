"""The commands that look after a store: here their parts are put together.

Whoever gives them, they act as the user that the store belongs to: what they make must be within
the reach of the daemon, which may be another user than the one that root is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import cache
from io import TextIOWrapper
from pathlib import Path

from httpd.app.media_types import type_of
from httpd.app.references import Origin, References
from httpd.catalog import url as urls
from httpd.catalog.catalog import Catalog
from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.older import OlderNames
from httpd.config import BadOption, Settings, Task
from httpd.process.daemon import UMASK
from httpd.process.identity import find_identity
from httpd.process.worker import catalog_url, open_catalog, open_storage, prepare
from httpd.storage.contract import Staged
from httpd.storage.note import VERIFIED, Note
from httpd.upkeep.copying import Copying
from httpd.upkeep.doors import Doors, Naming
from httpd.upkeep.import_by_hash import ImportByHash
from httpd.upkeep.import_by_id import ImportById
from httpd.upkeep.names import NameCheck
from httpd.upkeep.pace import Pace
from httpd.upkeep.position import Bookmark
from httpd.upkeep.report import Report
from httpd.upkeep.verify import Verify

# Exit codes, as those of diff(1): nothing found, something found, it could not be done.
CLEAN, FAULTS, TROUBLE = 0, 1, 2

BOOKMARK = ".verify"
"""Name of the note in the store that tells how far an interrupted check has come."""


def verify(settings: Settings, task: Task) -> int:
    """Check a store; return the exit code. Raises BadOption."""
    if not settings.store.is_dir():
        raise BadOption(f"--store: there is no store at {settings.store}")
    return _carry_out(_verify, settings, task, "blobs", "bytes", "names")


def import_store(settings: Settings, task: Task) -> int:
    """Take an older store into another; return the exit code. Raises BadOption."""
    if task.path is not None and _same(task.path, settings.store):
        raise BadOption(f"PATH: {task.path} is the store itself")
    if task.names_from is not None:
        try:
            Catalog.prepare(task.names_from)
        except ValueError as error:
            raise BadOption(f"--names-from: {error}") from None
    return _carry_out(_import, settings, task, "imported", "already there", "bytes")


def _carry_out(
    work: Callable[[Settings, Task, Report], None], settings: Settings, task: Task, *counts: str
) -> int:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names are in every alphabet
    prepare(settings, whole=True)
    _become_owner(settings)
    report = Report(sys.stdout, sys.stderr, *counts, as_json=task.json)
    try:
        with report.telling():
            work(settings, task, report)
    except CatalogUnavailable as error:
        return _complain(f"the database: {error}")
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _complain(f"{what}{error.strerror or error}")
    return FAULTS if report.tally.faults else CLEAN


def _verify(settings: Settings, task: Task, report: Report) -> None:
    storage = open_storage(settings)
    storage.recover()  # what a crash has left in a journal is no damage
    bookmark = Bookmark(Note(settings.store, BOOKMARK), repair=task.repair)
    check = Verify(storage, bookmark, report, Pace(task.rate), repair=task.repair)
    check.run(anew=task.anew)
    if _has_catalog(settings):
        with closing(open_catalog(settings).load()) as catalog:
            references = References(storage, catalog)
            NameCheck(storage, catalog, references, report, repair=task.repair).run()
    check.finish()
    try:
        Note(settings.store, VERIFIED).write(report.as_note())
    except OSError as error:  # a store that is mounted read-only can be checked as well
        _say(f"/metrics will not tell of this check: {error.strerror or error}")


def _import(settings: Settings, task: Task, report: Report) -> None:
    folder = os.path.realpath(task.path or "")
    copying = Copying(report, Pace(task.rate))
    with closing(open_catalog(settings).load()) as catalog:

        @cache
        def doors(algorithm: str) -> Doors:
            storage = open_storage(replace(settings, hash=algorithm))
            return Doors(storage, References(storage, catalog))

        if task.names_from is None:
            ImportByHash(folder, doors, copying, report).run()
            return
        storage = open_storage(settings)
        add = _naming(References(storage, catalog))
        with closing(OlderNames(task.names_from)) as names:
            ImportById(folder, names, storage, catalog, add, copying, report).run()


def _naming(references: References) -> Naming:
    def add(staged: Staged, file_id: str, name: str, created_at: datetime) -> None:
        origin = Origin(file_id, created_at)
        references.store_by_id(staged, (), name, type_of(name), origin)

    return add


def _has_catalog(settings: Settings) -> bool:
    """Tell whether there is a database; a check makes none."""
    url = urls.parse(catalog_url(settings))
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()


def _become_owner(settings: Settings) -> None:
    """Be who serves the store: the user that is told, or else its owner. Raises BadOption."""
    os.umask(UMASK)
    if settings.user is None and settings.group is None and settings.store.exists():
        status = settings.store.stat()
        if os.geteuid() == 0:
            settings = replace(settings, user=str(status.st_uid), group=str(status.st_gid))
    find_identity(settings).become()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _complain(reason: str) -> int:
    _say(reason)
    return TROUBLE


def _say(text: str) -> None:
    print(f"filestored: {text}", file=sys.stderr)
