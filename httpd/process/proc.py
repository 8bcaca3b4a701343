"""What proc(5) tells about other processes."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

GONE = "ZX"  # states: a zombie and a dead process only wait for their parent to notice


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used here."""

    state: str
    parent: int
    started: float  # seconds after the boot


def stat(pid: int) -> Stat | None:
    """Return what the kernel says about a process; None if it is gone, or as good as gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses, and may itself contain any of ") (".
    state, parent, *rest = text[text.rindex(")") + 2 :].split()
    if state in GONE:
        return None
    return Stat(state, int(parent), int(rest[17]) / os.sysconf("SC_CLK_TCK"))


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    others = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    found = [(other, stat(other)) for other in others]
    return [other for other, status in found if status and status.parent == pid]


def age(pid: int) -> float:
    """Return for how many seconds a process has been alive; 0 if it is gone."""
    status = stat(pid)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - status.started if status else 0.0
