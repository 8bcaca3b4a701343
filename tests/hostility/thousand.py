"""A thousand clients connect at the same moment to a daemon with its default options.

Run in a network of its own (unshare --net), where the kernel counts for nobody else, with a folder
for the daemon. Prints what they have met, as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.daemons import PATIENCE, Daemon
from tests.served import request

CLIENTS = 1000
PING = request("/healthz")


class DefaultDaemon(Daemon):
    """Given no option but where its files are."""

    def line(self, command: str, *flags: str) -> list[str]:
        folders = [f"--store={self.store}", f"--log-dir={self.logs}", f"--pidfile={self.pidfile}"]
        return [sys.executable, str(self.script), command, *folders, *flags]


def counters() -> dict[str, int]:
    """Return what the kernel has counted in this network."""
    found: dict[str, int] = {}
    for file in ("/proc/net/netstat", "/proc/net/snmp"):
        lines = [line.split() for line in Path(file).read_text().splitlines()]
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            found |= dict(zip(names[1:], map(int, values[1:]), strict=True))
    return found


def connect_all(port: int) -> tuple[list[socket.socket], int]:
    """Return the clients, and how many of them took a second or more to connect."""
    clients = [socket.socket() for _ in range(CLIENTS)]
    waiting = {client.fileno(): client for client in clients}
    poll = select.epoll()
    begun = time.monotonic()
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        poll.register(client, select.EPOLLOUT)
    late = 0
    while waiting:
        assert time.monotonic() - begun < PATIENCE
        for number, _ in poll.poll(1):
            client = waiting.pop(number)
            poll.unregister(number)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            late += time.monotonic() - begun >= 1
    return clients, late


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    daemon = DefaultDaemon(Path(sys.argv[1])).start()
    try:
        clients, late = connect_all(daemon.port)
        answered = 0
        for client in clients:
            client.settimeout(PATIENCE)
            client.sendall(PING)
        for client in clients:
            answered += client.recv(4096).startswith(b"HTTP/1.1 200 ")
        counted = {
            key: counters()[key] for key in ("ListenOverflows", "ListenDrops", "RetransSegs")
        }
        print(json.dumps({"answered": answered, "late": late, **counted}))
    finally:
        daemon.end()


if __name__ == "__main__":
    main()
