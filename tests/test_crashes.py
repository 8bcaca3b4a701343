"""kill -9 of every process in mid-upload, again and again: nothing acknowledged is lost."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest
import requests

from httpd.app.references import References
from httpd.catalog.catalog import Catalog
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from tests.daemons import Daemon, until
from tests.service import Service, blobs_in, path_in

CLIENTS = 4
# Worked off by one call, by several, and a flush's worth: a kill meets each of them half-done.
SIZES = [10, 5_000, 300_000, 3_000_000]
LONGEST_ROUND = 0.1  # seconds from the first answer to the kill: some dozen uploads


class Uploader:
    """A client that stores content at both doors, until the daemon dies under its hands."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.dice = random.Random(seed)
        self.by_hash: set[str] = set()  # digests that were acknowledged
        self.by_id: dict[str, str] = {}  # ids that were acknowledged, with their digests
        self.sent = 0

    def run(self, answered: Event) -> None:
        """Upload until there is no answer any more; tell when there was the first one."""
        with Service(self.daemon) as service:
            try:
                while True:
                    self.upload(service)
                    answered.set()
            except requests.ConnectionError:
                pass

    def upload(self, service: Service) -> None:
        # Of the small ones many come again, perhaps at the other door.
        size = self.dice.choice(SIZES)
        content = self.dice.randrange(1000 if size < 100 else 1 << 60).to_bytes(8) * (size // 8)
        digest = hashlib.md5(content).hexdigest()
        self.sent += 1
        if self.dice.random() < 0.5:
            assert service.post("/", data=content).text == digest
            self.by_hash.add(digest)
        else:
            answer = service.post("/files/a.txt", data=content)
            assert answer.status_code == 201
            self.by_id[answer.text] = digest


def kill_all(daemon: Daemon) -> None:
    """Kill every process at once, the master first: it must not tidy up after its workers."""
    for pid in (daemon.pid, *daemon.workers()):
        os.kill(pid, signal.SIGKILL)
    until(daemon.gone, "a killed process is still there")


def assert_nothing_is_lost(daemon: Daemon, uploaders: list[Uploader]) -> None:
    """Look at the catalog and the store themselves."""
    blobs = blobs_in(daemon.store)
    with closing(open_catalog(daemon)) as catalog:
        named = {file.id: file.digest for file in catalog.files()}
    assert set(named.values()) <= blobs, "an id without content"
    for uploader in uploaders:
        assert uploader.by_hash <= blobs, "an upload by hash is lost"
        assert uploader.by_id.items() <= named.items(), "an upload by id is lost"


def open_catalog(daemon: Daemon) -> Catalog:
    return Catalog.open(f"sqlite:///{daemon.store}/.catalog.db")


def is_whole(daemon: Daemon, digest: str) -> bool:
    content = path_in(daemon.store, digest).read_bytes()
    return hashlib.md5(content).hexdigest() == digest


@pytest.fixture(params=[pytest.param(5, id="5 rounds"),
                        pytest.param(200, id="200 rounds", marks=pytest.mark.long)])  # fmt: skip
def rounds(request: pytest.FixtureRequest) -> Iterator[int]:
    return iter(range(request.param))


def test_kill_in_mid_upload(rounds: Iterator[int], daemon: Daemon) -> None:
    dice = random.Random(0)
    uploaders = [Uploader(daemon, number) for number in range(CLIENTS)]
    for _ in rounds:
        daemon.start(f"--port={daemon.port}")
        answered = Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(uploader.run, answered) for uploader in uploaders]
            try:
                assert answered.wait(10)
                time.sleep(dice.uniform(0, LONGEST_ROUND))  # the moment itself is what is tried
            finally:
                kill_all(daemon)
            for each in running:
                each.result()
        assert_nothing_is_lost(daemon, uploaders)
    storage = LocalStorage(daemon.store, "md5", durable=False)
    assert all(is_whole(daemon, digest) for digest in blobs_in(daemon.store))
    with closing(open_catalog(daemon)) as catalog:
        references = References(storage, catalog)
        for row in list(catalog.unreferenced()):
            references.free_orphan(Digest(row.algorithm, row.digest))
        assert list(catalog.unreferenced()) == []
    assert_nothing_is_lost(daemon, uploaders)
    acknowledged = sum(len(each.by_hash) + len(each.by_id) for each in uploaders)
    assert acknowledged < sum(each.sent for each in uploaders)  # some were cut off
