"""`status` of a whole daemon: what it tells a person, and a script."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.process.status import amount
from tests.daemons import Daemon, until
from tests.service import Service


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    with Service(daemon) as service:
        yield service


def told(daemon: Daemon, code: int = 0) -> dict[str, Any]:
    done = daemon.command("status", "--json")
    assert (done.returncode, done.stderr) == (code, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_status_for_a_script(service: Service) -> None:
    daemon = service.daemon
    daemon.start()
    service.post("/", data=b"hello")
    service.get_file("0" * 32)
    until(lambda: told(daemon)["files"] == 1)
    document = told(daemon)
    assert document["pid"] == daemon.pid
    assert document["address"] == daemon.url
    assert set(document["workers"]) == daemon.workers()
    assert (document["running"], document["answers"], document["version"]) == (True, True, "0.1.0")
    assert (document["bytes"], document["worker_restarts"]) == (5, 0)
    assert document["requests"]["4xx"] == 1
    assert document["requests"]["2xx"] >= 1
    space = os.statvfs(daemon.store)
    assert 0 < document["free_bytes"] <= space.f_blocks * space.f_frsize
    assert document["uptime_seconds"] > 0


def test_status_for_a_person(service: Service) -> None:
    daemon = service.daemon
    daemon.start()
    service.post("/", data=b"hello")
    until(lambda: told(daemon)["files"] == 1)
    until(lambda: told(daemon)["requests"])
    first, *lines = daemon.command("status").stdout.splitlines()
    titles = {line[:14].strip(): line[14:] for line in lines}
    assert first == f"filestored 0.1.0 runs, pid {daemon.pid}"
    assert list(titles) == [
        "address", "workers", "uptime", "store", "free", "stored", "connections", "requests",
        "traffic",
    ]  # fmt: skip
    assert titles["stored"] == "1 file, 5 bytes"
    assert re.fullmatch(r"\d+ idle, \d+ receiving, \d+ sending", titles["connections"])
    assert re.fullmatch(r"\d+ 2xx", titles["requests"])
    assert " died" not in titles["workers"]


def test_status_tells_of_workers_that_died(service: Service) -> None:
    daemon = service.daemon
    daemon.start()
    victim = min(daemon.workers())
    os.kill(victim, signal.SIGKILL)
    until(lambda: told(daemon)["worker_restarts"] == 1)
    until(lambda: len(daemon.workers()) == 2)
    assert ", 1 died and were replaced" in daemon.command("status").stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "unix:{folder}/socket"])
def test_status_asks_wherever_the_daemon_listens(host: str, daemon: Daemon) -> None:
    daemon.start(f"--host={host.format(folder=daemon.folder)}")
    assert told(daemon)["answers"] is True


def test_status_of_a_daemon_that_hangs(service: Service) -> None:
    service.daemon.start("--workers=1")
    (worker,) = service.daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        document = told(service.daemon, code=4)
        assert (document["answers"], document["workers"]) == (False, [worker])
    finally:
        os.kill(worker, signal.SIGCONT)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"),
        (3 << 60, "3072.0 PiB"),
    ],
)  # fmt: skip
def test_amount(size: int, text: str) -> None:
    assert amount(size) == text
