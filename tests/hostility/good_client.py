"""A client that behaves, and notes how it is served."""

from __future__ import annotations

import hashlib
import os
import time
from threading import Event, Thread
from types import TracebackType

from tests.daemons import Daemon
from tests.served import Client, request

UPLOAD_EVERY = 10  # requests; and as often it connects anew
PAUSE = 0.002  # seconds between requests, so that this client is no load itself


class GoodClient:
    """Within its `with` it fetches a file, uploads now and then, and checks every byte."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._content = os.urandom(4096)
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []  # that each request took, its connection included
        self.failures: list[str] = []

    def __enter__(self) -> GoodClient:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            assert self.failures == []
            assert self.seconds

    def percentile(self, share: float) -> float:
        """Return the milliseconds within which that share of the requests was answered."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def told(self) -> str:
        """Return how it was served, in words."""
        half, most = self.percentile(0.5), self.percentile(0.99)
        slowest = 1000 * max(self.seconds)
        return (
            f"{len(self.seconds)} requests beside it: p50 {half:.1f} ms, p99 {most:.1f} ms, "
            f"slowest {slowest:.0f} ms"
        )

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._visit()
        except (AssertionError, OSError) as error:
            self.failures.append(repr(error))

    def _visit(self) -> None:
        begun = time.perf_counter()
        client = Client(("127.0.0.1", self._daemon.port))
        try:
            digest = hashlib.md5(self._content).hexdigest()
            for content in (self._content, os.urandom(1000)):
                reply = client.ask(request("/", method="POST", content=content))
                assert reply.status == 200, reply
                assert reply.content.decode() == hashlib.md5(content).hexdigest()
                begun = self._note(begun)
            for _ in range(UPLOAD_EVERY):
                reply = client.ask(request(f"/?file_hash={digest}"))
                assert (reply.status, reply.content) == (200, self._content)
                begun = self._note(begun)
        finally:
            client.close()

    def _note(self, begun: float) -> float:
        self.seconds.append(time.perf_counter() - begun)
        time.sleep(PAUSE)
        return time.perf_counter()
