"""Clients that never rest: what they lose, a daemon has lost.

    python -m tests.load URL SECONDS

says in a line of JSON how it went, when its input ends or after so many seconds.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import select
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.daemons import PATIENCE

KEPT, NEW = 2, 2  # clients that keep their connection, and that open one for every request
PAUSE = 0.002  # between two requests of a client: the machine has others to care for


class Tally(NamedTuple):
    """What has become of the requests."""

    requests: int
    failures: list[str]


class Load:
    """Stores, fetches and deletes from several threads, for as long as the block lasts."""

    def __init__(self, url: str, seconds: float = 300.0) -> None:
        self._address = urlsplit(url).netloc
        self._over = Event()
        self._deadline = time.monotonic() + seconds
        self._pool = ThreadPoolExecutor(KEPT + NEW)
        self._clients: list[Future[Tally]] = []

    def __enter__(self) -> Load:
        for number in range(KEPT + NEW):
            self._clients.append(self._pool.submit(self._use, number, keep=number < KEPT))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

    def tally(self) -> Tally:
        """Return what has become of all requests, once the block is over."""
        tallies = [client.result() for client in self._clients]
        failures = [failure for tally in tallies for failure in tally.failures]
        return Tally(sum(tally.requests for tally in tallies), failures)

    def _use(self, number: int, *, keep: bool) -> Tally:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        turn, failures = 0, []
        while not self._over.is_set() and time.monotonic() < self._deadline:
            content = f"client {number} turn {turn} ".encode() * (1 + turn % 7 * 500)
            digest = hashlib.md5(content).hexdigest()
            for method, target, body, right in (
                ("POST", "/", content, digest.encode()),
                ("GET", f"/?file_hash={digest}", None, content),
                ("DELETE", f"/?file_hash={digest}", None, None),
            ):
                turn += 1
                try:
                    connection.request(method, target, body)
                    response = connection.getresponse()
                    got = response.read()
                    if response.status != 200 or (right is not None and got != right):
                        failures.append(f"{method} {target}: {response.status} {got[:80]!r}")
                except (OSError, http.client.HTTPException) as error:
                    failures.append(f"{method} {target}, kept {keep}: {error!r}")
                    connection.close()
                if not keep:
                    connection.close()
            time.sleep(PAUSE)
        connection.close()
        return Tally(turn, failures)


def main(url: str, seconds: str) -> None:
    with Load(url, float(seconds)) as load:
        os.write(1, b"\n")  # it has begun
        select.select([0], [], [], float(seconds))
    print(json.dumps(load.tally()._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
