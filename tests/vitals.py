"""What a process takes of the machine, as proc(5) tells it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> list[str]:
    """Return what each open descriptor of a process stands for, sorted."""
    names = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            names.append(re.sub(r":\[\d+\]", "", os.readlink(f"/proc/{pid}/fd/{number}")))
    return sorted(names)


def sockets(pid: int) -> int:
    """Count the sockets that a process has open."""
    return descriptors(pid).count("socket")


def cpu_seconds(pid: int) -> float:
    """Return the time that a process has spent on a processor, in the kernel too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def private_memory(pid: int) -> int:
    """Return the bytes in memory that a process shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(each) << 10 for each in re.findall(r"^Private_\w+:\s*(\d+) kB$", text, re.M))


def address_space(pid: int) -> int:
    """Return the bytes that a process has mapped, which is what RLIMIT_AS limits."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmSize:\s*(\d+) kB$", text, re.M)[1]) << 10  # type: ignore[index]
