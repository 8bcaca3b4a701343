"""Older stores of files under their digests."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.storage.digest import ALGORITHMS
from tests.daemons import Daemon, until
from tests.storage.samples import COLLIDING, COLLIDING_DIGEST
from tests.upkeep.stores import Command, Store, put, snapshot

CONTENT = b"content of an older store"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    folder = tmp_path / "older"
    folder.mkdir()
    return folder


def put_by(folder: Path, content: bytes, algorithm: str = "md5") -> str:
    return put(folder, content, hashlib.new(algorithm, content).hexdigest())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_files_keep_the_digest_that_they_have(
    algorithm: str, older: Path, store: Store, command: Command
) -> None:
    for content in (CONTENT, b"", bytes(3 << 20)):
        put_by(older, content, algorithm)
    before = snapshot(older)
    outcome = command("import", str(older), "--hash=sha1")
    assert (outcome.code, outcome.faults, outcome.err) == (0, [], "")
    assert outcome.report["complete"]
    counts = [outcome.report[word] for word in ("imported", "already_there")]
    assert counts == [3, 0]
    for name in (path.name for path in older.glob("??/*")):
        assert store.path(name).read_bytes() == (older / name[:2] / name).read_bytes()
    assert snapshot(older) == before
    assert command("verify").code == 0


def test_what_is_here_is_skipped(older: Path, store: Store, command: Command) -> None:
    names = [put_by(older, b"%d" % number) for number in range(20)]
    store.keep(b"7")
    first = command("import", str(older)).report
    assert (first["imported"], first["already_there"], first["bytes"]) == (19, 1, 29)
    inodes = [store.path(name).stat().st_ino for name in names]
    again = command("import", str(older)).report
    assert (again["imported"], again["already_there"], again["bytes"]) == (0, 20, 0)
    assert [store.path(name).stat().st_ino for name in names] == inodes


def test_files_are_copied_and_not_linked(older: Path, store: Store, command: Command) -> None:
    name = put_by(older, CONTENT)
    command("import", str(older))
    (older / name[:2] / name).write_bytes(b"spoilt later")
    assert store.path(name).read_bytes() == CONTENT


def test_content_that_had_only_a_name_here_outlives_it(
    older: Path, store: Store, command: Command
) -> None:
    file_id, digest = store.name(CONTENT)
    put_by(older, CONTENT)
    assert command("import", str(older)).report["already_there"] == 1
    store.references.delete_by_id(file_id)
    assert store.path(digest.hex).read_bytes() == CONTENT


def test_what_is_wrong_is_told_and_the_rest_is_imported(
    older: Path, store: Store, command: Command
) -> None:
    good = put_by(older, CONTENT)
    mismatch = put(older, CONTENT, "ab" * 16)
    either = put(older, CONTENT, "ac" * 64)
    put(older, CONTENT, "ad.txt")
    put(older, COLLIDING[1], COLLIDING_DIGEST.hex)
    store.keep(COLLIDING[0])
    (older / "ae").mkdir()
    (older / "ae" / ("ae" * 16)).symlink_to(older / good[:2] / good)
    (older / "af").symlink_to(older / good[:2])
    (older / "README").touch()
    (older / ".hidden").touch()
    (older / "a36b2a3c-9f5c-4c4e-8a59-3a2c0f6f7c11").touch()
    before = snapshot(older)
    outcome = command("import", str(older))
    assert outcome.code == 1
    assert sorted(outcome.faults) == [
        ("mismatch", mismatch),
        ("mismatch", either),
        ("strange", "README"),
        ("strange", "a36b2a3c-9f5c-4c4e-8a59-3a2c0f6f7c11"),
        ("strange", "ad/ad.txt"),
        ("strange", f"ae/{'ae' * 16}"),
        ("unreadable", "af"),
    ]
    told = dict(zip(outcome.faults, outcome.details(), strict=True))
    assert told["mismatch", mismatch] == f"its bytes have md5 {good}"
    sha512, blake2b = (hashlib.new(each, CONTENT).hexdigest() for each in ("sha512", "blake2b"))
    assert told["mismatch", either] == f"its bytes have sha512 {sha512} or blake2b {blake2b}"
    assert "--names-from" in told["strange", "a36b2a3c-9f5c-4c4e-8a59-3a2c0f6f7c11"]
    assert outcome.report["imported"] == 1
    assert snapshot(older) == before
    assert list((store.root / ".tmp").iterdir()) == []
    assert command("verify").code == 0


@pytest.fixture
def unreadable(older: Path) -> Iterator[str]:
    """A file that no read succeeds on: EIO, as of the memory of a process at address 0."""
    name = put_by(older, CONTENT)
    path = older / name[:2] / name
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", path], check=True)
    yield name
    subprocess.run(["umount", path], check=True)


@pytest.mark.root
def test_file_that_cannot_be_read_is_told_and_leaves_nothing(
    unreadable: str, older: Path, store: Store, command: Command
) -> None:
    put_by(older, b"another")
    outcome = command("import", str(older))
    assert outcome.faults == [("unreadable", f"{unreadable[:2]}/{unreadable}")]
    assert outcome.details() == ["Input/output error"]
    assert outcome.report["imported"] == 1
    assert list((store.root / ".tmp").iterdir()) == []


@pytest.fixture
def full(store: Store) -> Iterator[None]:
    """A store that has room for nothing large."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", store.root], check=True)
    yield
    # Lazily: the storage maps a file of it for as long as it lives.
    subprocess.run(["umount", "--lazy", store.root], check=True)


@pytest.mark.root
@pytest.mark.usefixtures("full")
def test_full_store_ends_it(older: Path, command: Command) -> None:
    put_by(older, os.urandom(2 << 20))
    outcome = command("import", str(older))
    assert (outcome.code, outcome.err) == (2, "filestored: No space left on device\n")
    assert not outcome.report["complete"]


@pytest.mark.parametrize("path", ["no", "file"])
def test_path_that_is_no_folder(path: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").touch()
    outcome = command("import", str(tmp_path / path))
    assert outcome.code == 2
    assert str(tmp_path / path) in outcome.err


def test_store_is_not_imported_into_itself(store: Store, command: Command) -> None:
    outcome = command("import", str(store.root))
    assert outcome.code == 2
    assert "is the store itself" in outcome.err


def test_import_that_is_killed_goes_on(
    older: Path, store: Store, command: Command, tmp_path: Path
) -> None:
    names = [put_by(older, b"%d" % number + bytes(10_000)) for number in range(100)]
    own = [f"--store={store.root}", "--rate=100K", "--durability=none"]
    process = subprocess.Popen([*Daemon(tmp_path).line("import"), str(older), *own])
    try:
        until(lambda: len(list(store.root.glob("??/*"))) > 5)
    finally:
        process.kill()
        process.wait()
    before = len(list(store.root.glob("??/*")))
    report = command("import", str(older)).report
    assert report["already_there"] == before < 100
    assert report["imported"] == 100 - before
    assert all(store.path(name).exists() for name in names)
    assert [kind for kind, _ in command("verify", "--repair").faults] in ([], ["abandoned"])
    assert command("verify").code == 0
