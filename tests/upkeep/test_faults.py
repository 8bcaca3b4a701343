"""Every kind of fault, found and repaired; and what looks like one and is none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from httpd.storage.digest import ALGORITHMS
from tests.upkeep.stores import Command, Store, flip, put, snapshot

Found = tuple[str, str]
CONTENT = b"some content to be spoilt"
LONG_AGO = 1_000_000_000  # seconds since the epoch


def flipped(store: Store) -> Found:
    digest = store.keep(CONTENT)
    flip(store.path(digest.hex))
    return "damaged", digest.hex


def truncated(store: Store) -> Found:
    digest = store.keep(CONTENT)
    os.truncate(store.path(digest.hex), 3)
    return "damaged", digest.hex


def emptied(store: Store) -> Found:
    digest = store.keep(CONTENT)
    os.truncate(store.path(digest.hex), 0)
    return "damaged", digest.hex


def damaged_of_128_digits(store: Store) -> Found:
    name = store.put(CONTENT, "sha512")
    flip(store.path(name))
    return "damaged", name


def put_under_another_name(store: Store) -> Found:
    return "damaged", put(store.root, CONTENT, "ab" * 16)


def orphan(store: Store) -> Found:
    return "orphan", store.orphan(CONTENT).hex


def orphan_without_content(store: Store) -> Found:
    return "orphan", store.orphan(CONTENT, publish=False).hex


def abandoned(store: Store) -> Found:
    (store.root / ".tmp" / "0123").write_bytes(b"half an upload")
    return "abandoned", ".tmp/0123"


def empty_folder(store: Store) -> Found:
    folder = store.root / "ab"
    folder.mkdir()
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return "empty", "ab"


def missing(store: Store) -> Found:
    file_id, digest = store.name(CONTENT)
    store.path(digest.hex).unlink()
    store.path(digest.hex).parent.rmdir()
    return "missing", file_id


def strange(name: str) -> Callable[[Store], Found]:
    def make(store: Store) -> Found:
        put(store.root, b"no blob", name)
        return "strange", f"{name[:2]}/{name}"

    return make


def folder_for_a_blob(store: Store) -> Found:
    (store.root / "ab" / ("ab" * 16)).mkdir(parents=True)
    return "strange", f"ab/{'ab' * 16}"


def symlink_for_a_blob(store: Store) -> Found:
    path = store.path("ab" * 16)
    path.parent.mkdir()
    path.symlink_to(store.root / ".catalog.db")
    return "strange", f"ab/{'ab' * 16}"


def fifo_for_a_blob(store: Store) -> Found:
    path = store.path("ab" * 16)
    path.parent.mkdir()
    os.mkfifo(path)
    return "strange", f"ab/{'ab' * 16}"


def file_for_a_folder(store: Store) -> Found:
    (store.root / "ab").write_bytes(b"in the way")
    return "strange", "ab"


def symlink_for_a_folder(store: Store) -> Found:
    (store.root / "ab").symlink_to(store.root / ".tmp")
    return "strange", "ab"


def folder_of_another_name(store: Store) -> Found:
    (store.root / "AB").mkdir()
    return "strange", "AB"


REPAIRED = [
    flipped, truncated, emptied, damaged_of_128_digits, put_under_another_name, orphan,
    orphan_without_content, abandoned, empty_folder,
]  # fmt: skip
REPORTED = [
    missing, folder_for_a_blob, symlink_for_a_blob, fifo_for_a_blob, file_for_a_folder,
    symlink_for_a_folder, folder_of_another_name,
]  # fmt: skip
STRANGE = ["abc", "ab" * 15 + "a", "ab" + "AB" * 15, "ab\n\x1b[31m", "ab\udce4"]


def bystanders(store: Store) -> None:
    """Have blobs and names that are all right."""
    store.keep(b"a bystander")
    store.name(b"a named bystander")


@pytest.mark.parametrize("make", [*REPAIRED, *REPORTED, *map(strange, STRANGE)])
def test_fault_is_reported_and_nothing_is_changed(
    make: Callable[[Store], Found], store: Store, command: Command
) -> None:
    bystanders(store)
    found = make(store)
    before = snapshot(store.root)
    for _ in range(2):
        outcome = command("verify")
        assert (outcome.code, outcome.faults, outcome.repaired) == (1, [found], {False})
        assert outcome.report["found"] == {found[0]: 1}
    assert snapshot(store.root) == before


@pytest.mark.parametrize("make", REPAIRED)
def test_fault_is_repaired(make: Callable[[Store], Found], store: Store, command: Command) -> None:
    bystanders(store)
    kind, subject = make(store)
    outcome = command("verify", "--repair")
    left = [("quarantined", subject)] if kind == "damaged" else []
    assert (outcome.code, outcome.faults) == (1, [(kind, subject), *left])
    assert outcome.report["faults"][0]["repaired"]
    assert not store.path(subject).exists()
    again = command("verify", "--repair")
    assert (again.code, again.faults) == (len(left), left)
    assert store.quarantined() == ({subject} if kind == "damaged" else set())


@pytest.mark.parametrize("make", [*REPORTED, *map(strange, STRANGE)])
def test_what_cannot_be_repaired_is_left_alone(
    make: Callable[[Store], Found], store: Store, command: Command
) -> None:
    found = make(store)
    for _ in range(2):
        outcome = command("verify", "--repair")
        assert (outcome.code, outcome.faults, outcome.repaired) == (1, [found], {False})


def test_damaged_bytes_are_kept_in_quarantine(store: Store, command: Command) -> None:
    _, subject = flipped(store)
    damaged = store.path(subject).read_bytes()
    outcome = command("verify", "--repair")
    assert outcome.details()[0] == f"its bytes have md5 {hashlib.md5(damaged).hexdigest()}"
    assert (store.root / ".quarantine" / subject).read_bytes() == damaged
    assert not store.path(subject).parent.exists()  # it was the last in its folder


def test_names_of_quarantined_content_are_told(store: Store, command: Command) -> None:
    file_id, digest = store.name(CONTENT, "photo.jpg")
    flip(store.path(digest.hex))
    command("verify", "--repair")
    outcome = command("verify")
    assert outcome.faults == [("quarantined", digest.hex), ("missing", file_id)]
    assert outcome.details()[1] == f"photo.jpg, its content {digest.hex} is in quarantine"


def test_orphan_that_was_stored_by_hash_too_keeps_its_content(
    store: Store, command: Command
) -> None:
    digest = store.orphan(CONTENT, publish=False)
    staged = store.storage.stage()
    staged.append(CONTENT)
    staged.publish()
    assert command("verify", "--repair").faults == [("orphan", digest.hex)]
    assert store.path(digest.hex).read_bytes() == CONTENT
    assert command("verify").code == 0


def test_several_faults_are_told_in_order_and_counted(store: Store, command: Command) -> None:
    found = {make(store) for make in (flipped, abandoned, empty_folder)}
    file_id, digest = store.name(b"other content")
    store.path(digest.hex).unlink()
    found.add(("missing", file_id))
    outcome = command("verify")
    assert set(outcome.faults) == found
    assert outcome.report["found"] == {"damaged": 1, "abandoned": 1, "empty": 1, "missing": 1}
    assert outcome.faults[-1][0] == "missing"


@pytest.fixture
def unreadable(store: Store) -> Iterator[str]:
    """A blob that no read succeeds on: EIO, as of the memory of a process at address 0."""
    digest = store.keep(CONTENT)
    path = store.path(digest.hex)
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/mem", path], check=True)
    yield digest.hex
    subprocess.run(["umount", path], check=True)


@pytest.mark.root
def test_blob_that_cannot_be_read_is_reported_and_not_moved(
    unreadable: str, store: Store, command: Command
) -> None:
    bystanders(store)
    outcome = command("verify", "--repair")
    assert (outcome.code, outcome.faults) == (1, [("unreadable", unreadable)])
    assert outcome.details() == ["Input/output error"]
    assert outcome.report["blobs"] == 2
    assert store.quarantined() == set()


# ---- what is no fault


def by_every_algorithm(store: Store) -> None:
    for algorithm in ALGORITHMS:
        store.put(f"by {algorithm}".encode(), algorithm)


def empty_blob(store: Store) -> None:
    store.keep(b"")


def named_often(store: Store) -> None:
    for name in ("a", "b"):
        store.name(CONTENT, name)
    store.keep(CONTENT)


def young_folder(store: Store) -> None:
    """Look as an upload does between making the folder and moving its file there."""
    (store.root / "ab").mkdir()


def hidden(store: Store) -> None:
    (store.root / ".trash").mkdir()
    (store.root / ".note").touch()


def root_of_a_file_system(store: Store) -> None:
    (store.root / "lost+found").mkdir()


def just_made(store: Store) -> None:
    """Look as an upload does between making its file and locking it."""
    (store.root / ".tmp" / "0123").touch()


@pytest.mark.parametrize(
    "make",
    [by_every_algorithm, empty_blob, named_often, young_folder, hidden, root_of_a_file_system,
     just_made],
)  # fmt: skip
def test_what_is_all_right_is_not_reported(
    make: Callable[[Store], None], store: Store, command: Command
) -> None:
    make(store)
    for flags in ([], ["--repair"]):
        outcome = command("verify", *flags)
        assert (outcome.code, outcome.faults, outcome.err) == (0, [], "")


def test_upload_under_way_is_not_reported(store: Store, command: Command) -> None:
    staged = store.storage.stage()
    staged.append(CONTENT)
    staged.write_batch()
    assert command("verify", "--repair").code == 0
    assert staged.publish().created


def test_counts(store: Store, command: Command) -> None:
    store.keep(b"12345")
    store.name(b"678")
    report = command("verify").report
    assert (report["blobs"], report["bytes"], report["names"]) == (2, 8, 1)


def test_result_is_noted_for_who_asks_later(store: Store, command: Command) -> None:
    flip(store.path(store.keep(b"hello").hex))
    report = command("verify").report
    note = json.loads((store.root / ".verified").read_text())
    assert time.time() - 60 < note.pop("time") <= time.time()
    assert note.pop("seconds") >= 0
    assert note == {"blobs": 1, "bytes": 5, "names": 0, "found": {"damaged": 1}}
    assert note["found"] == report["found"]


def test_result_that_cannot_be_noted_is_told(store: Store, command: Command) -> None:
    (store.root / ".verified").mkdir()
    outcome = command("verify")
    assert (outcome.code, outcome.report["complete"]) == (0, True)
    assert outcome.err == "filestored: /metrics will not tell of this check: Is a directory\n"


def test_store_without_a_catalog_gets_none(store: Store, command: Command) -> None:
    store.put(CONTENT, "md5")
    assert command("verify", "--repair").code == 0
    assert list(store.root.glob(".catalog*")) == []


def test_blob_that_is_deleted_while_it_is_judged_is_no_fault(
    store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read, found damaged, and gone before the second look."""
    digest = store.keep(CONTENT)
    path = store.path(digest.hex)
    flip(path)
    original = os.pread

    def read_and_delete(*args: int) -> bytes:
        piece = original(*args)
        path.unlink(missing_ok=True)
        return piece

    monkeypatch.setattr(os, "pread", read_and_delete)
    for flags in ([], ["--repair"]):
        store.path(digest.hex).parent.mkdir(exist_ok=True)
        assert command("verify", *flags).faults == []
        path.write_bytes(b"spoilt again")


def test_blob_that_is_still_being_copied_there_by_hand_is_no_fault(
    store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(store.root, CONTENT[:5], hashlib.md5(CONTENT).hexdigest())
    original = os.pread

    def read_and_append(*args: int) -> bytes:
        piece = original(*args)
        if not piece:
            store.path(name).write_bytes(CONTENT)
        return piece

    monkeypatch.setattr(os, "pread", read_and_append)
    assert command("verify", "--repair").faults == []
    assert command("verify", "--repair").code == 0
