"""Stores to check, in every state, and what a command says of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from httpd.app.references import References
from httpd.catalog.catalog import Catalog
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage


class Outcome(NamedTuple):
    """What a command has told."""

    code: int
    faults: list[tuple[str, str]]  # kind and subject
    repaired: set[bool]  # what is said of them
    report: dict[str, Any]
    err: str

    @classmethod
    def parse(cls, code: int, out: str, err: str) -> Outcome:
        report = json.loads(out or '{"faults": []}')
        faults = [(fault["kind"], fault["subject"]) for fault in report["faults"]]
        repaired = {fault["repaired"] for fault in report["faults"]}
        return cls(code, faults, repaired, report, err)

    def details(self) -> list[str]:
        return [fault["detail"] for fault in self.report["faults"]]


# Of a store's root. What is staged is looked at, and not the time of the folder for it.
OWN = (".catalog", ".deletions", ".tmp", ".verified")

Command = Callable[..., Outcome]


class Store:
    """A store with its catalog, and ways to fill and to spoil it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = LocalStorage(root, "md5", durable=False)
        self.catalog = Catalog.open(f"sqlite:///{root}/.catalog.db", durable=False)
        self.references = References(self.storage, self.catalog)

    def keep(self, content: bytes) -> Digest:
        """Store content by its hash."""
        staged = self.storage.stage()
        staged.append(content)
        return self.references.store_by_hash(staged, ()).digest

    def name(self, content: bytes, name: str = "a.txt") -> tuple[str, Digest]:
        """Store content under a name; return its id as well."""
        staged = self.storage.stage()
        staged.append(content)
        file = self.references.store_by_id(staged, (), name, "text/plain").file
        return file.id, Digest(file.algorithm, file.digest)

    def orphan(self, content: bytes, *, publish: bool = True) -> Digest:
        """Leave what an upload leaves that is killed before it adds its name."""
        staged = self.storage.stage()
        staged.append(content)
        digest, size, stamp = staged.seal()
        self.catalog.note(digest.hex, digest.algorithm, size, str(stamp))
        if publish:
            staged.publish()
        else:
            staged.discard()
        return digest

    def put(self, content: bytes, algorithm: str) -> str:
        """Put a blob there by hand; return its name."""
        return put(self.root, content, hashlib.new(algorithm, content).hexdigest())

    def path(self, hexdigits: str) -> Path:
        return self.root / hexdigits[:2] / hexdigits

    def quarantined(self) -> set[str]:
        folder = self.root / ".quarantine"
        return {file.name for file in folder.iterdir()} if folder.exists() else set()


def put(folder: Path, content: bytes, hexdigits: str) -> str:
    """Put a file under a digest, or what is to be taken for one, in a store-like folder."""
    path = folder / hexdigits[:2] / hexdigits
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hexdigits


def flip(path: Path) -> None:
    """Damage a file as a disk does: one bit, and no time tells of it."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def snapshot(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return what must not change of a tree: all of it but the store's own files and folder."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in folder.rglob("*")
        if path.parent != folder or not path.name.startswith(OWN)
    }


def new_id() -> str:
    return str(uuid4())
