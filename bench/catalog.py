"""How long the server takes for pages of the list and for look-ups by id, with many files.

    python bench/catalog.py [--files 100000]

Fills the catalog of a daemon of its own, asks it over one connection, and prints what its access
log tells: the time from a request's head to the last byte of the answer. On SQLite, and on
PostgreSQL where its Debian package is.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from uuid import uuid4

import sqlalchemy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from httpd.catalog.catalog import Catalog
from httpd.catalog.cursor import Cursor
from httpd.catalog.schema import files
from httpd.catalog.url import parse
from tests.catalog.databases import PROGRAMS, Server
from tests.daemons import Daemon, until
from tests.service import Service

REQUESTS = 500  # of each kind, behind WARM_UP that are not counted
WARM_UP = 50
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # content of all files: it costs nothing to send
START_US = 1_700_000_000_000_000  # the first file's time; each has a second of its own
ROWS = 5_000  # of one INSERT, so that filling takes seconds and not minutes

Filled = list[tuple[int, str]]
"""Time in microseconds and id of every file, the oldest first."""


def fill(url: str, count: int) -> Filled:
    """Put that many files into an empty catalog."""
    catalog = Catalog.open(url)
    catalog.note(EMPTY, "md5", 0, None)
    catalog.mark_stored_by_hash(EMPTY)
    catalog.close()
    filled = [(START_US + number * 1_000_000, str(uuid4())) for number in range(count)]
    rows = [
        {"id": file_id, "digest": EMPTY, "type": "image/jpeg", "created_us": created_us}
        | dict.fromkeys(("name", "folded_name"), f"photo {number}.jpg")
        for number, (created_us, file_id) in enumerate(filled)
    ]
    engine = sqlalchemy.create_engine(parse(url))
    with engine.begin() as connection:
        for at in range(0, count, ROWS):
            connection.execute(sqlalchemy.insert(files), rows[at : at + ROWS])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")  # as a database does by itself, sooner or later
    engine.dispose()
    return filled


def a_page(filled: Filled, limit: int) -> str:
    """Return the target of a page somewhere in the list."""
    return f"/files/?limit={limit}&after={Cursor(*random.choice(filled))}"


KINDS: dict[str, Callable[[Filled], str]] = {
    "look-up by id": lambda filled: f"/files/{random.choice(filled)[1]}/",
    "unknown id": lambda _filled: f"/files/{uuid4()}/",
    "first page of 20": lambda _filled: "/files/?limit=20",
    "any page of 20": lambda filled: a_page(filled, 20),
    "any page of 100": lambda filled: a_page(filled, 100),
}


def measure(daemon: Daemon, filled: Filled) -> dict[str, list[float]]:
    """Return the times of each kind of request, in milliseconds."""
    with Service(daemon) as service:
        service.post("/", data=b"")
        for kind, target_of in KINDS.items():
            for _ in range(WARM_UP + REQUESTS):
                service.get(target_of(filled), headers={"User-Agent": kind})
    log = daemon.logs / "access.log"
    wanted = 1 + len(KINDS) * (WARM_UP + REQUESTS)
    until(lambda: log.read_bytes().count(b"\n") == wanted, "the access log is not complete")
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for line in log.read_text().splitlines()[1:]:
        _, kind, seconds = line.rsplit('"', 2)
        times[kind].append(float(seconds) * 1000)
    return {kind: each[WARM_UP:] for kind, each in times.items()}


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """Make a database of each kind; yield their URLs."""
    with TemporaryDirectory() as folder, TemporaryDirectory(prefix="pg-") as server_folder:
        urls = {"SQLite": f"sqlite:///{folder}/catalog.db"}
        if not PROGRAMS:
            yield urls
            return
        server = Server(Path(server_folder))
        server.start()
        try:
            yield urls | {"PostgreSQL": server.new_schema()}
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="time the list and look-ups by id")
    parser.add_argument("--files", type=int, default=100_000)
    count = parser.parse_args().files
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    print(f"{count} files; {cores} cores, load {load:.2f} (what else runs here adds to every time)")
    with databases() as urls:
        for name, url in urls.items():
            with TemporaryDirectory() as folder:
                daemon = Daemon(Path(folder))
                filled = fill(url, count)
                daemon.start(f"--database-url={url}", "--workers=1")
                try:
                    times = measure(daemon, filled)
                finally:
                    daemon.end()
            for kind, each in times.items():
                late = quantiles(each, n=100)[98]
                print(f"{name:11}{kind:17} median {median(each):6.3f} ms   p99 {late:6.3f} ms")


if __name__ == "__main__":
    main()
