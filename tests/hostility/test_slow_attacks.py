"""slowhttptest's four attacks, and a good client beside them."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import vitals
from tests.daemons import Daemon, until
from tests.hostility.conftest import allow_descriptors
from tests.hostility.good_client import GoodClient
from tests.service import Service

pytestmark = [
    pytest.mark.hostility,
    pytest.mark.skipif(not shutil.which("slowhttptest"), reason="needs slowhttptest (Debian)"),
]


class Scale(NamedTuple):
    """How large an attack is."""

    connections: int
    rate: int  # of new ones a second
    seconds: int


SHORT = Scale(300, 150, 5)
FULL = Scale(1000, 200, 60)
PROBE_SECONDS = 3  # without an answer to its probe, slowhttptest calls the service down

ATTACKS = {
    "slow head": ["-H", "-i", "3", "-x", "24"],
    "slow body": ["-B", "-i", "3", "-s", "8192", "-x", "10"],
    "slow read": ["-X", "-w", "512", "-y", "1024", "-n", "3", "-z", "32", "-k", "3"],
    "range, head within the limit": ["-R", "-a", "5", "-b", "1500"],
    "range, head beyond the limit": ["-R", "-a", "5", "-b", "5000"],
}


@pytest.mark.parametrize("flags", ATTACKS.values(), ids=ATTACKS)
def test_slow_attack(
    flags: list[str],
    daemon: Daemon,
    tmp_path: Path,
    *,
    in_full: bool,
    figure: Callable[[str], None],
) -> None:
    scale = FULL if in_full else SHORT
    allow_descriptors(4 * scale.connections)
    daemon.start()
    with Service(daemon) as service:
        digest = service.post("/", data=os.urandom(4 << 20)).text
    workers = daemon.workers()
    before = sum(map(vitals.cpu_seconds, workers))
    with GoodClient(daemon) as good:
        subprocess.run(
            ["slowhttptest", *flags, "-c", str(scale.connections), "-r", str(scale.rate),
             "-l", str(scale.seconds), "-p", str(PROBE_SECONDS), "-g", "-o", "report",
             "-u", f"{daemon.url}/?file_hash={digest}"],
            cwd=tmp_path, check=True, capture_output=True, timeout=3 * scale.seconds + 30,
        )  # fmt: skip
    spent = sum(map(vitals.cpu_seconds, workers)) - before
    with (tmp_path / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(int(row["Service Available"]) for row in rows), rows
    assert daemon.workers() == workers
    peak = max(int(row["Connected"]) for row in rows)
    figure(f"up to {peak} connections, {spent:.1f} s of CPU; {good.told()}")
    until(lambda: not daemon.staged())
