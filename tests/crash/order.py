"""What must come before what: the order of operations of a commit and of a delete, as a table.

A trace of system calls is read as steps in the words of the store. Whatever is changed has to be
flushed before the step that relies on it: before content gets its name, before its row is added to
the catalog, before the answer leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from httpd.storage.journal import MARKER_BYTES
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
    digests: tuple[str, ...] = ()  # of the content that is named, journaled or answered for
    source: str = ""  # what the name was given to


class Rule(NamedTuple):
    """Each `change` is followed by a `flush` of its subject before a `reliance` comes.

    Or its content is in a journal by then, and that flushed.
    """

    change: str
    flush: str
    reliance: str


RULES = [
    # An upload.
    Rule("write content", "flush content", "name content"),
    Rule("append", "flush journal", "name content"),
    Rule("append", "flush journal", "answer"),
    Rule("name content", "flush folder", "answer"),
    Rule("make folder", "flush root", "answer"),
    # A delete.
    Rule("remove content", "flush folder", "answer"),
    Rule("remove folder", "flush root", "answer"),
    Rule("name content", "flush blob", "void"),
    Rule("void", "flush journal", "remove content"),
    Rule("void", "flush journal", "answer"),
    Rule("drop damaged", "flush quarantine", "answer"),
    # With a name: the digest is noted, the content published, the name added; a name is taken
    # away before its content.
    Rule("write catalog", "flush catalog", "name content"),
    Rule("name content", "flush folder", "write catalog"),
    Rule("make folder", "flush root", "write catalog"),
    Rule("write catalog", "flush catalog", "remove content"),
    Rule("remove content", "flush folder", "write catalog"),
    Rule("write catalog", "flush catalog", "answer"),
    # A journal is there before it is relied on, and let go of when nothing relies on it.
    Rule("make journals", "flush root", "append"),
    Rule("make journal", "flush journals", "append"),
    Rule("empty journal", "flush journal", "append"),
    Rule("name content", "flush everything", "empty journal"),
    Rule("name content", "flush everything", "remove journal"),
    Rule("remove journal", "flush journals", "report"),
    Rule("empty journal", "flush journal", "report"),
    # A damaged copy goes when the good one is on disk.
    Rule("name content", "flush folder", "drop damaged"),
    # Whatever a check says that it has repaired.
    Rule("quarantine", "flush quarantine", "report"),
    Rule("quarantine", "flush folder", "report"),
    Rule("make quarantine", "flush root", "report"),
    Rule("remove folder", "flush root", "report"),
    # A store that is made.
    Rule("make store", "flush parent", "answer"),
    Rule("make store", "flush parent", "report"),
]
# Where content in a journal is as good as on disk.
JOURNAL_SERVES = {"name content", "answer", "write catalog", "drop damaged"}
# What ends that.
LETS_GO = {"empty journal", "remove journal"}
BEFORE = ".journal/before"  # stands for whichever journal it was in before the first step

# The steps that have to have been done before the answer, or else what the rules are about would be
# missing: by kind of operation.
NEW = ("write content", "flush content", "name content", "flush folder", "flush root", "answer")
JOURNALED = ("append", "flush journal", "write content", "name content", "answer")
HERE = ("flush blob", "flush folder", "flush root", "answer")
GONE = ("remove content", "flush folder", "flush root", "answer")
CATALOG = ("write catalog", "flush catalog")


def broken(steps: Sequence[Step], needed: Sequence[str] = ()) -> list[str]:
    """Return what is out of order; `needed`: the words that have to be there before the answer."""
    return [*_missing(steps, needed), *(each for rule in RULES for each in _breaks(steps, rule))]


def _missing(steps: Sequence[Step], needed: Sequence[str]) -> Iterator[str]:
    last = max((step.begun for step in steps if step.word in ("answer", "report")), default=inf)
    for word in needed:
        found = [step for step in steps if step.word == word]
        if not found or (word != "answer" and min(step.ended for step in found) >= last):
            yield f"no {word} before the answer"


def _breaks(steps: Sequence[Step], rule: Rule) -> Iterator[str]:
    for change in steps:
        if change.word != rule.change:
            continue
        flushes = [step for step in steps if _is_flush(step, rule.flush, change)]
        for reliance in steps:
            if reliance.word != rule.reliance or reliance.begun <= change.ended:
                continue
            if change.word == "write content" and reliance.source != change.subject:
                continue
            if rule.reliance in LETS_GO and _needs_no_journal(steps, change, reliance):
                continue
            if rule.reliance in JOURNAL_SERVES and _is_journaled(steps, change, reliance):
                continue
            if not any(flush.ended < reliance.begun for flush in flushes):
                yield f"no {rule.flush} between {change} and {reliance}"
                break


def _is_flush(step: Step, word: str, change: Step) -> bool:
    """Tell whether a step brings the change to disk."""
    if step.begun <= change.ended:
        return False
    if step.word == "flush everything":
        return True
    subject = {
        "flush folder": change.subject[:2],
        "flush root": ".",
        "flush quarantine": ".quarantine",
        "flush journals": ".journal",
        "flush parent": str(Path(change.subject).parent),
    }.get(word, change.subject)
    return step.word == word and step.subject == subject


def _is_journaled(steps: Sequence[Step], change: Step, reliance: Step) -> bool:
    """Tell whether the content that a change is about is in a flushed journal by then."""
    about = change.digests
    if change.word == "write content":
        about = reliance.digests
    for append in steps:
        if append.word != "append":
            continue
        same = set(about) & set(append.digests) or (
            change.word == "make folder"
            and any(digest.startswith(change.subject) for digest in append.digests)
        )
        flushed = any(
            step.word == "flush journal"
            and step.subject == append.subject
            and append.ended < step.begun
            and step.ended < reliance.begun
            for step in steps
        )
        if same and flushed:
            return True
    return False


def _needs_no_journal(steps: Sequence[Step], change: Step, reliance: Step) -> bool:
    """Tell whether content was flushed before it got its name, or is in another journal.

    Of content that only some journal had before these steps nobody knows in which.
    """
    if any(
        step.word == "flush content" and step.subject == change.source and step.ended < change.begun
        for step in steps
    ):
        return True
    journals = {
        step.subject for step in steps
        if step.word == "append" and set(step.digests) & set(change.digests)
    }  # fmt: skip
    return bool(journals) and not journals & {BEFORE, reliance.subject}


def steps_of(calls: Sequence[Call], store: Path) -> list[Step]:
    """Read system calls as steps. What failed was no step."""
    steps = []
    for call in calls:
        if not call.failed:
            word, *more = _read(call, str(store))
            if word:
                steps.append(Step(call.begun, call.ended, word, *more))
    return steps


def journaled(digest: str) -> list[Step]:
    """Return the steps by which a content came into a journal before all others."""
    return [
        Step(-2, -2, "append", BEFORE, (digest,)),
        Step(-1, -1, "flush journal", BEFORE),
    ]


def about(steps: Sequence[Step], digest: str) -> list[Step]:
    """Return the steps that concern one content, of all that were done at the same time."""
    subjects = {".", digest[:2]}
    for step in steps:
        if digest in step.digests and step.word in ("name content", "append"):
            subjects |= {step.subject, step.source}
    return [
        step for step in steps
        if digest in step.digests or (step.subject in subjects and not step.digests)
    ]  # fmt: skip


_DESCRIPTOR = re.compile(r"\d+<(.*?)>(?:\(deleted\))?(?:, |$)")
_PATHS = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>(?:\(deleted\))?, )?"((?:[^"\\]|\\.)*)"')
_PLACE = re.compile(r", (\d+), (\d+)$")  # what pwrite64(2) takes behind the bytes
_TAG = re.compile(r"ETag: \\\"([0-9a-f]+)\\\"")
_RECORD = re.compile(r"md5:([0-9a-f]{32})")
_BLOB = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]+)")
_FOLDER = re.compile(r"[0-9a-f]{2}")

Read = tuple[Any, ...]
"""(word, subject, digests, source); "" for a word where it is no step."""


def _read(call: Call, store: str) -> Read:
    if call.name in ("sendto", "sendmsg") and "<TCP" in call.arguments:
        return "answer", "", tuple(_TAG.findall(call.arguments))
    if call.name in (*WRITES, *FLUSHES, "syncfs"):
        found = _DESCRIPTOR.match(call.arguments)
        path = _within(found[1], store) if found else ""
        return (_written if call.name in WRITES else _flushed)(path, call)
    paths = [
        _within(name if name.startswith("/") else f"{folder}/{name}", store)
        for folder, name in _PATHS.findall(call.arguments)
    ]
    if call.name in RENAMES:
        return _renamed(*paths)
    if call.name in REMOVALS:
        return _removed(paths[0])
    if call.name == "rmdir":
        return ("remove folder", paths[0]) if _FOLDER.fullmatch(paths[0]) else ("",)
    if call.name in ("mkdir", "mkdirat"):
        return _made(paths[0], store)
    if call.name == "openat" and "O_CREAT" in call.arguments and paths[0].startswith(".journal/"):
        return "make journal", paths[0]
    return ("",)


def _within(path: str, store: str) -> str:
    """Return a path as it is within the store, "." for the store itself; others stay."""
    return "." if path == store else path.removeprefix(f"{store}/")


def _written(path: str, call: Call) -> Read:
    if path.startswith(".tmp/"):
        return "write content", path
    if path == ".catalog.db-wal":
        return "write catalog", path
    if path.startswith(".journal/"):
        place = _PLACE.search(call.arguments)
        assert place, call
        length, offset = map(int, place.groups())
        if not offset:
            return "empty journal", path
        if length <= MARKER_BYTES:
            return "void" if length == 1 else "cut short", path
        return "append", path, tuple(_RECORD.findall(call.arguments))
    told = "listening on" in call.arguments or '"seconds"' in call.arguments.replace("\\", "")
    return ("report", path) if told and call.arguments.startswith("1<") else ("",)


def _flushed(path: str, call: Call) -> Read:
    if call.name == "syncfs":
        return "flush everything", path
    if _BLOB.fullmatch(path):
        return "flush blob", path
    if _FOLDER.fullmatch(path):
        return "flush folder", path
    words = {".": "root", ".quarantine": "quarantine", ".journal": "journals"}
    beginnings = {".tmp/": "content", ".journal/": "journal", ".catalog.db": "catalog"}
    for beginning, word in beginnings.items():
        if path.startswith(beginning):
            return f"flush {word}", path
    return f"flush {words.get(path, 'parent')}", path


def _renamed(source: str, target: str) -> Read:
    if blob := _BLOB.fullmatch(target):
        return "name content", target, (blob[2],), source
    if target.startswith(".quarantine/"):
        return "quarantine", source
    return ("name content", target, (), source) if source.startswith(".tmp/") else ("",)


def _removed(path: str) -> Read:
    if blob := _BLOB.fullmatch(path):
        return "remove content", path, (blob[2],)
    words = {".quarantine/": "drop damaged", ".journal/": "remove journal"}
    found = [word for beginning, word in words.items() if path.startswith(beginning)]
    return (found[0], path) if found else ("",)


def _made(path: str, store: str) -> Read:
    if _FOLDER.fullmatch(path):
        return "make folder", path
    if path in (".journal", ".quarantine"):
        return f"make {'journals' if path == '.journal' else 'quarantine'}", path
    if path == ".":
        return "make store", store
    return ("make store", path) if store.startswith(f"{path}/") else ("",)
