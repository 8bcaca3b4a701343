"""What the service manager hears of the daemon: sd_notify(3) in a few lines.

The protocol is a datagram of NAME=value lines to a unix socket. It needs no library, and systemd's
own is built against the machine's, which a virtual environment has not got.
"""

from __future__ import annotations

import time
from contextlib import suppress
from math import inf
from socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket


class Notifier:
    """Tells the service manager of one process; tells nobody where there is none."""

    def __init__(self, address: str | None = None, watchdog: float = 0.0) -> None:
        """Take NOTIFY_SOCKET, and the seconds within which `alive` must be heard; 0: never."""
        # An abstract address is written with an "@" (sd_notify(3), unix(7)).
        self._address = address and (f"\0{address[1:]}" if address.startswith("@") else address)
        # Half of it, as sd_watchdog_enabled(3) advises.
        self.interval = watchdog / 2 if address and watchdog else inf

    def ready(self, status: str) -> None:
        """Tell that requests are answered: after a start, and after a reload however it went."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def goes_on(self, status: str, seconds: float) -> None:
        """Tell that the start takes its time, and is to be waited for so long from now on."""
        self._tell(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Tell that a reload is under way, until `ready`."""
        moment = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={moment}", "STATUS=reloading")

    def stopping(self, status: str) -> None:
        """Tell that the daemon is on its way out."""
        self._tell("STOPPING=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Tell a person how things are."""
        self._tell(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Tell that the daemon is well, and begin the watchdog's time anew."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # Whoever does not listen any more must not stop the daemon, and never make it wait.
        with suppress(OSError), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(errors="replace"), self._address)


def _line(text: str) -> str:
    """Return the text in one line: a second one would be a field of its own."""
    return " ".join(text.split())
