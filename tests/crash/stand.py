"""A daemon on trial: started, crashed, and asked afterwards what it has kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from httpd.process import proc
from tests.crash.disk import syncfs
from tests.crash.history import Found
from tests.crash.nursery import Nursery
from tests.daemons import ANNOUNCEMENT, PATIENCE, until


class Answer(NamedTuple):
    """An answer of the daemon."""

    status: int
    content: bytes

    @property
    def text(self) -> str:
        """The content of an answer that is text."""
        return self.content.decode()


class Broken(Exception):
    """The connection has ended before the answer, or instead of it."""


class Caller:
    """A client of one daemon, over one connection as long as that lasts."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, method: str, target: str, content: bytes | None = None) -> Answer:
        """Ask and wait for the answer. Raises Broken."""
        try:
            self._connection.request(method, target, content)
            response = self._connection.getresponse()
            return Answer(response.status, response.read())
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise Broken(str(error)) from None

    @property
    def local_port(self) -> int:
        """The port that its connection comes from."""
        return int(self._connection.sock.getsockname()[1])

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()


class Stand:
    """A store, and one daemon on it at a time."""

    def __init__(
        self,
        folder: Path,
        store: Path,
        *flags: str,
        algorithm: str = "md5",
        nursery: Nursery | None = None,
    ) -> None:
        """Keep what is beside the store in `folder`; `flags` go to every daemon.

        `nursery`: one of that folder which has no daemon now; else it gets one of its own.
        """
        self.store = store
        self._folder = folder
        self._algorithm = algorithm
        self._own = (f"--pidfile={folder}/pid", f"--store={store}")
        self._flags = ("--host=127.0.0.1", "--workers=2", f"--hash={algorithm}", *flags)
        self.nursery = nursery or Nursery(folder)
        self.without = ""  # the flush that nothing which is started makes, see `flushes`
        self.port = self.pid = 0

    def begin(self, *flags: str) -> None:
        """Fork a daemon, and do not wait for it to serve."""
        args = (*self._own, *self._flags, f"--port={self.port}", *flags)
        self.pid = self.nursery.run("run", *args, without=self.without)

    def start(self, *flags: str) -> None:
        """Start a daemon; it serves when this returns."""
        self.begin(*flags)
        told = ANNOUNCEMENT.search(self.nursery.announcement())
        assert told, f"the daemon does not start:\n{self.nursery.log}"
        self.port = int(told[1].rpartition(":")[2])

    def kill(self) -> None:
        """Kill every process of the daemon."""
        self.nursery.kill()

    def close(self) -> None:
        """End it."""
        self.nursery.close()

    def workers(self) -> list[int]:
        """Return the pids of the workers."""
        return proc.children(self.pid)

    def caller(self) -> Caller:
        """Return a client of the daemon."""
        return Caller(self.port)

    def flush(self) -> None:
        """Bring all of its file system to disk."""
        syncfs(self.store)

    @staticmethod
    def md5(content: bytes) -> str:
        """Return the digest that a store gives a content unless it is told otherwise."""
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    def digest(self, content: bytes) -> str:
        """Return the digest that the store gives a content."""
        return hashlib.new(self._algorithm, content, usedforsecurity=False).hexdigest()

    def wait_for_census(self) -> None:
        """Wait until what was in the store at the start has been counted, which opens its folders.

        Nobody counts again within an hour.
        """
        with closing(self.caller()) as caller:
            until(
                lambda: b"\nfilestored_blobs " in caller.ask("GET", "/metrics").content,
                "the store is not counted",
            )

    def staged(self) -> list[str]:
        """Return the names of what is on its way into the store."""
        return os.listdir(self.store / ".tmp")

    def files(self) -> set[str]:
        """Return the names of everything that is where blobs are."""
        return {file.name for file in self.store.glob("[0-9a-f][0-9a-f]/*")}

    def verify(self, *flags: str) -> list[dict[str, Any]]:
        """Return the faults that `main.py verify` finds, each with its kind and subject."""
        args = ("--json", *self._own, *flags)
        ended = self.nursery.command("verify", *args, without=self.without)
        assert ended.code in (0, 1), ended
        report = json.loads(ended.out)
        assert report["complete"]
        assert ended.code == bool(report["faults"])
        return list(report["faults"])

    def interrupt_verify(self, *flags: str) -> None:
        """Begin to check, and interrupt that."""
        args = ("verify", *self._own, *flags)
        self.nursery.interrupted(*args, after=0.5, without=self.without)

    def import_store(self, folder: Path) -> None:
        """Take in an older store."""
        args = ("import", str(folder), "--json", *self._own)
        assert self.nursery.command(*args, without=self.without).code == 0

    def repair(self, *kinds: str) -> int:
        """Have the orphans of uploads that were cut off freed; return how many there were.

        Nothing else may be wrong but these kinds, and nothing may be left afterwards.
        """
        faults = self.verify("--repair")
        if faults:
            assert {fault["kind"] for fault in faults} <= {"orphan", *kinds}, faults
            assert all(fault["repaired"] for fault in faults)
            assert self.verify() == []
        return len(faults)

    def names(self) -> dict[str, set[str]]:
        """Return the ids of all files by id, by digest."""
        names = defaultdict(set)
        target = "/files/?limit=1000"
        with closing(self.caller()) as caller:
            answer = caller.ask("GET", target)
            assert answer.status == 200, answer
            for row in json.loads(answer.content):
                names[row["file_hash"]].add(row["id"])
        return names

    def find(self, contents: dict[str, bytes]) -> dict[str, Found]:
        """Ask for every content and id, and see that the bytes are right and nothing else is there.

        `contents`: all that was ever sent, by digest.
        """
        names = self.names()
        assert names.keys() <= contents.keys()
        found = {}
        with closing(self.caller()) as caller:
            for digest, content in contents.items():
                answer = caller.ask("GET", f"/?file_hash={digest}")
                assert answer.status in (200, 404), answer
                assert answer.status == 404 or answer.content == content, f"damaged: {digest}"
                found[digest] = Found(answer.status == 200, frozenset(names.get(digest, ())))
            for digest, file_id in _pairs(names):
                answer = caller.ask("GET", f"/files/{file_id}/")
                assert answer == (200, contents[digest]), f"a name without content: {file_id}"
        assert self.files() == {digest for digest, each in found.items() if each.is_there}
        until(lambda: self.staged() == [], "something stays staged")
        return found


def _pairs(names: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    for digest, ids in names.items():
        for file_id in ids:
            yield digest, file_id
