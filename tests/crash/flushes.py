"""Every flush by which a store comes to disk, and how to do without one.

A flush is named by the functions on the way to it, the innermost last.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

CATALOG = "the catalog's PRAGMA synchronous"

# flush -> the operation or scene whose order is broken without it
NEEDED = {
    # A content by itself.
    "StagedFile.complete": "store by hash, 70 KiB",
    "LocalStorage._add > Folders.flush_entries > Folders.flush": "store by hash, 70 KiB",
    "LocalStorage._add > Folders.flush_entries > Folders.flush_path": "store by hash, 70 KiB",
    "LocalStorage._confirm > Folders.flush": "store by hash what is there, 4 KiB",
    "LocalStorage._confirm > Folders.flush_entries > Folders.flush": (
        "store by hash what is there, 4 KiB"
    ),
    "LocalStorage._confirm > Folders.flush_entries > Folders.flush_path": (
        "store by hash what is there, 4 KiB"
    ),
    "LocalStorage.delete > Folders.flush_entries > Folders.flush": "delete by hash, 4 KiB",
    "LocalStorage.delete > Folders.flush_entries > Folders.flush_path": "delete by hash, 4 KiB",
    # In a journal.
    "GroupCommit._commit > Journal.flush": "store by hash, 4 KiB",
    "Journals.create > Folders.flush_path": "the first journal is made",
    "Journals.void > Folders.flush_file > Folders.flush": "what is in a journal is deleted",
    "_Known.void": "what is in a journal is deleted",
    "Journal.empty": "a journal is settled",
    "Settling.settle > Settling._flush_all > syncfs": "a journal is settled",
    "Settling.settle_dead > Settling._flush_all > syncfs": "a journal is recovered",
    "Journals.remove > Folders.flush_path": "a journal is recovered",
    "Settling._flush_all > Settling._flush_folder > Folders.flush_file > Folders.flush": (
        "a journal is settled in a second attempt"
    ),
    "Settling._flush_all > Settling._flush_folder > Folders.flush, a prefix folder": (
        "a journal is settled in a second attempt"
    ),
    "Settling._flush_all > Folders.flush_path, the root": (
        "a journal is settled in a second attempt"
    ),
    # A store, and what is beside its blobs.
    "_make_folder > _flush": "a store is made",
    "Folders.make > Folders.flush_path": "a store is made by itself",
    "Quarantine.drop > Folders.flush_path": "a damaged file is deleted",
    "Quarantine.take > Folders.flush_path": "a damaged file is found",
    "LocalStorage.quarantine > Folders.flush_entries > Folders.flush": "a damaged file is found",
    "LocalStorage.quarantine > Folders.flush_entries > Folders.flush_path": (
        "a damaged file is found"
    ),
    "LocalStorage.forsaken > Folders.flush_entries > Folders.flush_path": (
        "an empty folder is found"
    ),
    "Note.write": "a check is interrupted",
    CATALOG: "store by id, 4 KiB",
}

# flush -> why nothing acknowledged is lost without it
NOT_NEEDED = {
    "StagedFile.flush": "the last flush of a big content covers it; it makes that one short",
    "Journal.void": (
        "who sent the content was told of a failure: it may come back, where no other content of "
        "its digest is there"
    ),
    "LocalStorage.forsaken > Folders.flush_entries > Folders.flush": (
        "an empty folder that is removed has nothing left to flush; its entry is the root's"
    ),
}

LEFT_OUT = "left out: "


def leave_out(flush: str) -> None:
    """Let this process, and all that it forks, do without a flush; each time it says so."""
    from httpd.catalog import catalog, engine
    from httpd.storage import settling

    if flush == CATALOG:

        def make_engine(*args: Any, **options: Any) -> Any:
            _say(flush)
            return engine.make_engine(*args, **{**options, "durable": False})

        vars(catalog)["make_engine"] = make_engine
        return
    chain, _, place = flush.partition(", ")
    names = chain.split(" > ")
    for module, name, own in (
        (os, "fsync", ()),
        (os, "fdatasync", ()),
        (settling, "syncfs", ("syncfs",)),
    ):
        vars(module)[name] = _unless(names, place, flush, vars(module)[name], *own)


def _unless(
    names: list[str], place: str, flush: str, make: Callable[[int], None], *own: str
) -> Callable[[int], None]:
    def maybe(descriptor: int) -> None:
        way = [*own, *_callers(sys._getframe(1))]
        if way[: len(names)] == names[::-1] and place in ("", _place_of(descriptor)):
            _say(flush)
        else:
            make(descriptor)

    return maybe


def _callers(frame: Any) -> Iterator[str]:
    while frame is not None:
        yield frame.f_code.co_qualname
        frame = frame.f_back


def _place_of(descriptor: int) -> str:
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    return "the root" if os.path.isdir(f"{path}/.tmp") else "a prefix folder"


def _say(flush: str) -> None:
    os.write(2, f"{LEFT_OUT}{flush}\n".encode())
