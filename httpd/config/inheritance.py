"""What a process is told by whoever has started it: a service manager, or its own predecessor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

SUCCESSION = "FILESTORED_SUCCESSION"
"""Names the descriptor in which a master that renews itself leaves what its next self needs."""

FIRST_SOCKET = 3  # sd_listen_fds(3), SD_LISTEN_FDS_START
ACTIVATION = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
SUPERVISION = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Inheritance(NamedTuple):
    """What the environment says of this very process."""

    notify_socket: str | None  # where the service manager hears of us (sd_notify(3))
    watchdog: float  # seconds in which it must hear that we are well; 0: it does not ask
    logs: Path | None  # folder for logs that it has made (systemd.exec(5), LogsDirectory=)
    sockets: list[int]  # listening sockets that it has opened for us (sd_listen_fds(3))
    succession: int | None  # descriptor with what an earlier self has left


def inheritance() -> Inheritance:
    """Read what the environment says; what is meant for another process does not count."""
    environ = os.environ
    own = str(os.getpid())
    count = _number(environ.get("LISTEN_FDS")) if environ.get("LISTEN_PID") == own else 0
    meant = environ.get("WATCHDOG_PID") in (own, None)
    succession = environ.get(SUCCESSION)
    return Inheritance(
        environ.get("NOTIFY_SOCKET") or None,
        _number(environ.get("WATCHDOG_USEC")) / 1e6 if meant else 0.0,
        Path(folder) if (folder := environ.get("LOGS_DIRECTORY")) else None,
        list(range(FIRST_SOCKET, FIRST_SOCKET + count)),
        _number(succession) if succession else None,
    )


def bequest(descriptor: int, *, supervised: bool) -> dict[str, str]:
    """Return the environment of the process that finds its succession in `descriptor`.

    `supervised`: whether it speaks to the service manager. The sockets that were opened for us are
    in the succession, so what tells of them ends here.
    """
    dropped = ACTIVATION if supervised else ACTIVATION + SUPERVISION
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, SUCCESSION: str(descriptor)}


def _number(text: str | None) -> int:
    """Return a number of the environment; 0 for what is none, as sd_listen_fds(3) would fail."""
    return int(text) if text and text.isdecimal() else 0
