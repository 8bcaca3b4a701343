"""wrk, the load of many small requests: run with a script, and what it tells at its end."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.peers.peer import on_cores

SCRIPTS = Path(__file__).parent
TOLD = re.compile(r"^told:((?: \w+=\d+)+)$", re.MULTILINE)


class Failed(Exception):
    """A server has not answered as it should."""


class Told(NamedTuple):
    """How a run went. All requests had an answer, and a good one."""

    requests: int
    seconds: float
    p50: float  # milliseconds from a request to the last byte of its answer
    p99: float
    p999: float
    cpu: float  # seconds that wrk itself has used


def missing() -> str | None:
    """Say what this machine lacks."""
    return None if shutil.which("wrk") else "Debian's wrk"


def run(
    script: str, url: str, connections: int, seconds: int, cores: Sequence[int], *args: str
) -> Told:
    """Run one of the scripts from these cores, a thread a core. Raises Failed."""
    threads = min(len(cores), connections)
    with TemporaryDirectory() as folder:
        file = Path(folder) / script
        parts = [(SCRIPTS / name).read_text() for name in (script, "told.lua")]
        file.write_text("\n".join(parts))
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}", "-s", str(file), url]
        before = _cpu()
        with on_cores(cores):
            done = subprocess.run([*command, "--", *args], capture_output=True, text=True,
                                  check=False)  # fmt: skip
    return parse(done.stdout + done.stderr, _cpu() - before)


def parse(output: str, cpu: float) -> Told:
    """Read what told.lua has written. Raises Failed where a request went wrong."""
    found = TOLD.search(output)
    if found is None:
        raise Failed(f"wrk did not finish: {output.strip()[-300:]}")
    told = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", found[1])}
    if told["failed"] or told["refused"] or not told["requests"]:
        raise Failed("{refused} of {requests} requests refused, {failed} failed".format(**told))
    p50, p99, p999 = (told[key] / 1e3 for key in ("p50", "p99", "p999"))
    return Told(told["requests"], told["duration"] / 1e6, p50, p99, p999, cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
