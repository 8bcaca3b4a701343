"""What machine this is, as far as it explains the figures."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

STEPS = 200_000


def pulse() -> float:
    """Return the ms that a loop takes, always the same: how fast a core is at the moment.

    On a virtual machine it may take twice as long as a moment before, with nothing else running.
    """
    begun = time.perf_counter()
    total = 0
    for step in range(STEPS):
        total += step * step % 7
    return (time.perf_counter() - begun) * 1e3


def rhythm(pulses: Sequence[float]) -> str:
    """Say how even the machine was, by the pulses of a whole run."""
    least, middle, most = min(pulses), median(pulses), max(pulses)
    return f"{least:.0f} ms at best, {middle:.0f} in the middle, {most:.0f} at worst"


def facts(folder: Path) -> dict[str, str]:
    """Describe the machine, and the file system that all servers store on."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory() / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "file system": file_system(folder),
        "Python": platform.python_version(),
        "load before it began": f"{os.getloadavg()[0]:.2f}",
    }


def file_system(folder: Path) -> str:
    """Return the type of a folder's file system (proc_pid_mountinfo(5))."""
    path, found = folder.resolve(), ("", "unknown")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted, _, rest = line.partition(" - ")
        point = mounted.split()[4].encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, rest.split()[0])
    return found[1]


def _processor() -> str:
    names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0].strip() if names else platform.machine()


def memory() -> int:
    """Return the bytes of memory that it has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
