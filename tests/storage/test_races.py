"""Many processes and threads at the same few blobs, which share one prefix folder."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

from httpd.storage.contract import Collision, NotFound, Stored
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from tests.storage.samples import COLLIDING, COLLIDING_DIGEST, download, neighbour, upload

PROCESSES = 3
THREADS = 4
ROUNDS = 150

CONTENTS: dict[Digest, tuple[bytes, ...]] = {
    COLLIDING_DIGEST: COLLIDING,
    Digest("md5", hashlib.md5(neighbour(COLLIDING_DIGEST)).hexdigest()): (
        neighbour(COLLIDING_DIGEST),
    ),
}

Tally = Counter[tuple[str, Digest]]


def in_group(storage: LocalStorage, content: bytes) -> Stored:
    [outcome] = storage.publish_together([(content, ())])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome or upload(storage, content)


def one_round(storage: LocalStorage, random: Random, tally: Tally) -> None:
    """Do something to one of the blobs; count what was acknowledged."""
    digest = random.choice(list(CONTENTS))
    content = random.choice(CONTENTS[digest])
    act = random.choice(["upload", "group", "delete", "download", "sweep"])
    try:
        if act in ("upload", "group"):
            stored = upload(storage, content) if act == "upload" else in_group(storage, content)
            assert stored[:2] == (digest, len(content))
            tally["created" if stored.created else "there", digest] += 1
        elif act == "delete":
            storage.delete(digest)
            tally["deleted", digest] += 1
        elif act == "download":
            assert download(storage, digest) in CONTENTS[digest]
            tally["read", digest] += 1
        else:
            storage.sweep()  # may take a file before it is locked; its writer makes another
    except NotFound:
        tally["not found", digest] += 1
    except Collision:
        assert len(CONTENTS[digest]) > 1
        tally["collision", digest] += 1


def thread(storage: LocalStorage, seed: int) -> Tally:
    random, tally = Random(seed), Tally()
    for _ in range(ROUNDS):
        one_round(storage, random, tally)
    return tally


def process(storage: LocalStorage, seed: int) -> Tally:
    with ThreadPoolExecutor(THREADS) as pool:
        threads = [pool.submit(thread, storage, seed * THREADS + n) for n in range(THREADS)]
        return sum((thread.result() for thread in threads), Tally())


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "scratch"])
def test_what_is_acknowledged_adds_up(tmp_path: Path, *, durable: bool) -> None:
    root = tmp_path / "store"
    storage = LocalStorage(root, "md5", durable=durable)
    with ProcessPoolExecutor(PROCESSES, get_context("fork")) as pool:
        processes = [pool.submit(process, storage, seed) for seed in range(PROCESSES)]
        tally = sum((process.result() for process in processes), Tally())

    for digest in CONTENTS:
        # In any order that one after the other explains, creations and deletions alternate.
        left = tally["created", digest] - tally["deleted", digest]
        assert left in (0, 1)
        if left:
            storage.delete(digest)
    storage.sweep()  # the processes have left their journals, with all that was in them
    for digest in CONTENTS:
        with pytest.raises(NotFound):
            storage.open(digest)
    storage.close()
    journals = root / ".journal"
    assert journals.exists() == durable
    assert not durable or os.listdir(journals) == []
    assert sorted(set(os.listdir(root)) - {".journal"}) == [".deletions", ".tmp"]
    assert os.listdir(root / ".tmp") == []
    outcomes = {outcome for outcome, _ in tally}
    assert outcomes == {"created", "there", "deleted", "read", "not found", "collision"}
