"""What must come before what: the order of operations of a commit and of a delete, as a table.

A trace of system calls is read as steps in the words of the store. Whatever is changed has to be
flushed before the step that relies on it: before content gets its name, before its row is added to
the catalog, before the answer leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.crash.strace import Call

WRITES = {"write", "pwrite64", "writev", "pwritev", "pwritev2"}
FLUSHES = {"fsync", "fdatasync"}
RENAMES = {"rename", "renameat", "renameat2"}
REMOVALS = {"unlink", "unlinkat"}


class Step(NamedTuple):
    """Something that was done to `subject`: a path within the store. Moments are line numbers."""

    begun: int
    ended: int
    word: str
    subject: str
    digest: str = ""  # of the content that is named or answered for
    source: str = ""  # what the name was given to


class Rule(NamedTuple):
    """Each `change` is followed by a `flush` of its subject before a `reliance` comes."""

    change: str
    flush: str
    reliance: str


RULES = [
    # An upload.
    Rule("write content", "flush content", "name content"),
    Rule("name content", "flush folder", "answer"),
    Rule("make folder", "flush root", "answer"),
    # A delete.
    Rule("remove content", "flush folder", "answer"),
    Rule("remove folder", "flush root", "answer"),
    Rule("drop damaged", "flush quarantine", "answer"),
    # With a name: the digest is noted, the content published, the name added; a name is taken
    # away before its content.
    Rule("write catalog", "flush catalog", "name content"),
    Rule("name content", "flush folder", "write catalog"),
    Rule("make folder", "flush root", "write catalog"),
    Rule("write catalog", "flush catalog", "remove content"),
    Rule("remove content", "flush folder", "write catalog"),
    Rule("write catalog", "flush catalog", "answer"),
    # A damaged copy goes when the good one is on disk.
    Rule("name content", "flush folder", "drop damaged"),
    Rule("make folder", "flush root", "drop damaged"),
    # Whatever a check says that it has repaired.
    Rule("quarantine", "flush quarantine", "report"),
    Rule("quarantine", "flush folder", "report"),
    Rule("remove folder", "flush root", "report"),
    # A store that is made.
    Rule("make store", "flush parent", "name content"),
]

# A step of an operation that has to have ended before its answer begins, though it changes nothing
# by itself, or else what the rules are about would be missing: by kind of operation.
NEW = ("write content", "flush content", "name content", "flush folder", "flush root", "answer")
HERE = ("flush blob", "flush folder", "flush root", "answer")
GONE = ("remove content", "flush folder", "flush root", "answer")
CATALOG = ("write catalog", "flush catalog")


def broken(steps: Sequence[Step], needed: Sequence[str] = ()) -> list[str]:
    """Return what is out of order; `needed`: the words that have to be there before the answer."""
    return [*_missing(steps, needed), *(each for rule in RULES for each in _breaks(steps, rule))]


def _missing(steps: Sequence[Step], needed: Sequence[str]) -> Iterator[str]:
    last = max((step.begun for step in steps if step.word in ("answer", "report")), default=0)
    for word in needed:
        found = [step for step in steps if step.word == word]
        if not found or (word != "answer" and min(step.ended for step in found) >= last):
            yield f"no {word} before the answer"


def _breaks(steps: Sequence[Step], rule: Rule) -> Iterator[str]:
    for change in steps:
        if change.word != rule.change:
            continue
        flushed = [
            step.ended
            for step in steps
            if step.word == rule.flush
            and step.subject == _flushed_with(change, rule.flush)
            and step.begun > change.ended
        ]
        for step in steps:
            relies = step.word == rule.reliance and step.begun > change.ended
            if relies and not any(moment < step.begun for moment in flushed):
                yield f"no {rule.flush} between {change} and {step}"
                break


def _flushed_with(change: Step, flush: str) -> str:
    """Return what has to be flushed for a change to be on disk."""
    match flush:
        case "flush folder":
            return change.subject[:2]
        case "flush root":
            return "."
        case "flush quarantine":
            return ".quarantine"
        case "flush parent":
            return str(Path(change.subject).parent)
    return change.subject


def steps_of(calls: Sequence[Call], store: Path) -> list[Step]:
    """Read system calls as steps. What failed was no step."""
    steps = []
    for call in calls:
        if not call.failed:
            word, *more = _read(call, str(store))
            if word:
                steps.append(Step(call.begun, call.ended, word, *more))
    return steps


def about(steps: Sequence[Step], digest: str) -> list[Step]:
    """Return the steps that concern one content, of all that were done at the same time."""
    subjects = {".", digest[:2]}
    for step in steps:
        if step.digest == digest and step.word == "name content":
            subjects |= {step.subject, step.source}
    return [
        step for step in steps
        if step.digest == digest or (step.subject in subjects and not step.digest)
    ]  # fmt: skip


_DESCRIPTOR = re.compile(r"\d+<(.*?)>(?:\(deleted\))?(?:, |$)")
_PATHS = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>(?:\(deleted\))?, )?"((?:[^"\\]|\\.)*)"')
_TAG = re.compile(r'ETag: \\"([0-9a-f]+)\\"')
_BLOB = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]+)")
_FOLDER = re.compile(r"[0-9a-f]{2}")


def _read(call: Call, store: str) -> tuple[str, ...]:
    """Return word, subject, digest and source of a call; "" for a word where it is no step."""
    if call.name in ("sendto", "sendmsg") and "<TCP" in call.arguments:
        tag = _TAG.search(call.arguments)
        return "answer", "", tag[1] if tag else ""
    if call.name in WRITES or call.name in FLUSHES:
        found = _DESCRIPTOR.match(call.arguments)
        path = _within(found[1], store) if found else ""
        if call.name in WRITES:
            return _written(path, call.arguments), path, ""
        return _flushed(path), path, ""
    paths = [
        _within(name if name.startswith("/") else f"{folder}/{name}", store)
        for folder, name in _PATHS.findall(call.arguments)
    ]
    if call.name in RENAMES:
        return _renamed(*paths)
    if call.name in REMOVALS:
        return _removed(paths[0])
    if call.name in ("mkdir", "mkdirat", "rmdir"):
        making = call.name != "rmdir"
        if _FOLDER.fullmatch(paths[0]):
            return "make folder" if making else "remove folder", paths[0], ""
        if making and (paths[0] == "." or paths[0].startswith("/")):
            return "make store", paths[0].replace(".", store, 1), ""
    return "", "", ""


def _within(path: str, store: str) -> str:
    """Return a path as it is within the store, "." for the store itself; others stay."""
    if path == store:
        return "."
    return path.removeprefix(f"{store}/")


def _written(path: str, arguments: str) -> str:
    if path.startswith(".tmp/"):
        return "write content"
    if path == ".catalog.db-wal":
        return "write catalog"
    if path.endswith("command.out") and '"faults"' not in arguments:
        return "report"
    return ""


def _flushed(path: str) -> str:
    if path.startswith(".tmp/"):
        return "flush content"
    if _BLOB.fullmatch(path):
        return "flush blob"
    if _FOLDER.fullmatch(path):
        return "flush folder"
    if path.startswith("/"):
        return "flush parent"
    return {".": "flush root", ".quarantine": "flush quarantine"}.get(
        path, "flush catalog" if path == ".catalog.db-wal" else ""
    )


def _renamed(source: str, target: str) -> tuple[str, ...]:
    if blob := _BLOB.fullmatch(target):
        return "name content", target, blob[2], source
    if target.startswith(".quarantine/"):
        return "quarantine", source, ""
    return ("name content", target, "") if source.startswith(".tmp/") else ("", "", "")


def _removed(path: str) -> tuple[str, str, str]:
    if blob := _BLOB.fullmatch(path):
        return "remove content", path, blob[2]
    return ("drop damaged", path, "") if path.startswith(".quarantine/") else ("", "", "")
