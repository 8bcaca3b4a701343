"""Checks of a store that is in use find nothing but what is wrong."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest

from tests.daemons import Daemon
from tests.service import Service, path_in
from tests.upkeep.stores import flip

CONTENTS = [b"content %d" % number * 1000 for number in range(6)]
CLIENTS, CHECKS = 4, 3


def upload_and_delete(daemon: Daemon, over: Event, broken: list[object]) -> None:
    """Do everything that changes a store, with few contents, so that clients meet."""
    dice = random.Random(0)
    with Service(daemon) as service:
        while not over.is_set():
            content = dice.choice(CONTENTS)
            digest = service.post("/", data=content).text
            file_id = service.post("/files/a.txt", data=content).text
            answers = [
                service.delete(f"/files/{file_id}/").status_code,
                service.delete(f"/?file_hash={digest}").status_code,
            ]
            if answers[0] != 200 or answers[1] not in (200, 404, 409):
                broken.append(answers)


@contextmanager
def clients(daemon: Daemon) -> Iterator[None]:
    over, broken = Event(), []
    threads = [
        Thread(target=upload_and_delete, args=(daemon, over, broken)) for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert broken == []


@pytest.mark.parametrize("flags", [[], ["--repair"]], ids=["report", "repair"])
def test_uploads_and_deletes_are_no_faults(flags: list[str], daemon: Daemon) -> None:
    daemon.start()
    with Service(daemon) as service:
        kept = [service.post("/", data=b"kept %d" % number).text for number in range(50)]
        with clients(daemon):
            for _ in range(CHECKS):
                done = daemon.command("verify", "--json", *flags)
                assert (done.returncode, done.stderr) == (0, ""), done.stdout
                assert json.loads(done.stdout)["blobs"] >= len(kept)
        # And one that is wrong is found among all that changes.
        flip(path_in(daemon.store, kept[7]))
        with clients(daemon):
            done = daemon.command("verify", "--json", *flags)
        faults = json.loads(done.stdout)["faults"]
        assert (done.returncode, faults[0]["subject"]) == (1, kept[7])
        assert {fault["subject"] for fault in faults} == {kept[7]}


def test_store_is_the_running_daemons_unless_told_of_another(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start(f"--database-url=sqlite:///{tmp_path}/names.db")
    with Service(daemon) as service:
        service.post("/files/a.txt", data=b"named")
    report = json.loads(daemon.command("verify", "--json").stdout)
    assert (report["blobs"], report["names"]) == (1, 1)
    # Another store is not compared with this one's names.
    (tmp_path / "other").mkdir()
    done = daemon.command("verify", "--json", f"--store={tmp_path}/other")
    assert (done.returncode, json.loads(done.stdout)["names"]) == (0, 0)


def reports_nothing(daemon: Daemon, *flags: str) -> str:
    done = daemon.command("verify", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


def test_store_that_is_not_there_is_not_made(daemon: Daemon) -> None:
    told = reports_nothing(daemon, f"--store={daemon.folder}/no")
    assert told == f"filestored: --store: there is no store at {daemon.folder}/no\n"
    assert not (daemon.folder / "no").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://h/d", "--database-url: a database URL begins with one of"),
        ("postgresql://x@127.0.0.1:1/d", "the database: connection failed"),
    ],
)
def test_database_that_cannot_be_used_is_told(url: str, reason: str, daemon: Daemon) -> None:
    daemon.store.mkdir()
    assert reason in reports_nothing(daemon, f"--store={daemon.store}", f"--database-url={url}")


def owners(store: Path) -> set[int]:
    return {path.lstat().st_uid for path in [store, *store.rglob("*")]}


def check(daemon: Daemon) -> int:
    return daemon.command("verify", "--repair", f"--store={daemon.store}").returncode


def take_in(daemon: Daemon) -> int:
    older = daemon.folder / "older" / "5d"
    older.mkdir(parents=True)
    (older / "5d41402abc4b2a76b9719d911017c592").write_bytes(b"hello")
    (older / "5d41402abc4b2a76b9719d911017c592").chmod(0o644)
    for folder in (older.parent, older):
        folder.chmod(0o755)  # it must be readable to the owner, too
    return daemon.command("import", f"--store={daemon.store}", str(older.parent)).returncode


@pytest.mark.root
@pytest.mark.parametrize(("act", "code"), [(check, 1), (take_in, 0)])
def test_what_root_does_is_done_as_the_owner_of_the_store(
    act: Callable[[Daemon], int], code: int
) -> None:
    """Else a daemon that is not root could no longer use what was made."""
    with TemporaryDirectory() as folder:  # which pytest's own folders would keep the owner out of
        Path(folder).chmod(0o755)
        daemon = Daemon(Path(folder))
        with Service(daemon) as service:
            try:
                daemon.start("--user=nobody")
                digest = service.post("/", data=b"kept").text
                service.post("/files/a.txt", data=b"named")
                daemon.stop()
                flip(path_in(daemon.store, digest))
                assert act(daemon) == code
            finally:
                daemon.end()
        assert owners(daemon.store) == {daemon.store.stat().st_uid} != {os.getuid()}
