"""Stands in for a service manager: hears what a daemon tells of itself (sd_notify(3))."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.daemons import PATIENCE, until
from tests.process.stubs import StubDaemon

# What systemd does between fork and exec: the sockets from descriptor 3 on, and whose they are.
LAUNCH = """
import os, sys
given = [int(number) for number in sys.argv[1].split()]
spare = [os.dup2(number, 100 + place) for place, number in enumerate(given)]
for place, number in enumerate(spare):
    os.dup2(number, 3 + place)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(given))
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """A notification socket, and the way to start a daemon under it."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.heard: list[dict[str, str]] = []

    def close(self) -> None:
        self._socket.close()

    def listen(self) -> list[dict[str, str]]:
        """Return all that has been told so far, by field."""
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except BlockingIOError:
                return self.heard
            self.heard.append(dict(line.split("=", 1) for line in text.split("\n")))

    def told(self, **fields: str) -> dict[str, str]:
        """Wait for a message with these fields that has not been waited for yet; return it."""

        def found() -> dict[str, str] | None:
            for number, message in enumerate(self.listen()):
                if fields.items() <= message.items():
                    del self.heard[: number + 1]
                    return message
            return None

        message = until(found, f"{fields} is told")
        assert message is not None
        return message

    def silent(self) -> bool:
        """Tell whether nothing has been told since the last look."""
        count = len(self.heard)
        return len(self.listen()) == count

    def run(
        self, daemon: StubDaemon, *flags: str, watchdog: float = 0, sockets: Sequence[int] = ()
    ) -> subprocess.Popen[str]:
        """Start the daemon in the foreground, as a service. `watchdog`: seconds; 0: none."""
        environment = {**daemon.env, "NOTIFY_SOCKET": self.address}
        if watchdog:
            environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        launch = [sys.executable, "-c", LAUNCH, " ".join(map(str, sockets))]
        process = subprocess.Popen(
            [*launch, *daemon.line("run", *flags)], cwd=daemon.folder, env=environment, text=True,
            stdout=subprocess.PIPE, pass_fds=sockets,
        )  # fmt: skip
        assert process.stdout is not None
        daemon.note(process.stdout.readline())
        return process


def stop(process: subprocess.Popen[str]) -> int:
    """Stop a service; return its exit code."""
    process.terminate()
    process.communicate(timeout=PATIENCE)
    return process.returncode
