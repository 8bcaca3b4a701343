"""What there is to tell of a daemon: for a person, and for a script.

What only the daemon knows it is asked for, as any client would ask: so the answer also shows that
it serves.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any

from httpd.config import VERSION, Settings
from httpd.process import proc
from httpd.process.listeners import is_open_to_all, unix_path, url

# A daemon that is well answers in a moment, also on its first scrape; one that hangs never does.
PATIENCE_SECONDS = 5.0
_PREFIX = "filestored_"

Samples = dict[str, dict[tuple[str, ...], float]]
"""By metric: by the values of the labels."""


class Status:
    """The state of a running daemon, at the moment it is made."""

    def __init__(self, pid: int, settings: Settings) -> None:
        """Look at the processes and ask the daemon."""
        self._settings = settings
        self._samples: Samples = {}
        self.failure: str | None = None  # why it has not answered
        self.pid = pid
        self.workers = sorted(proc.children(pid))
        self.uptime = proc.age(pid)
        try:
            self._samples = _samples(_ask(settings))
        except (OSError, HTTPException, ValueError) as error:
            self.failure = str(error) or type(error).__name__

    @property
    def version(self) -> str:
        """The daemon's own, where it has told it: it may be older than this command."""
        labels = next(iter(self._samples.get("build_info", {})), (VERSION,))
        return labels[0]

    def document(self) -> dict[str, Any]:
        """Return it for a script; what is not known is null."""
        return {
            "running": True,
            "version": self.version,
            "pid": self.pid,
            "address": url(self._settings),
            "uptime_seconds": round(self.uptime, 3),
            "workers": self.workers,
            "worker_restarts": self._number("worker_restarts_total"),
            "answers": self.failure is None,
            "connections": self._by_label("connections"),
            "requests": self._requests(),
            "received_bytes": self._number("received_bytes_total"),
            "sent_bytes": self._number("sent_bytes_total"),
            "store": str(self._settings.store),
            "files": self._number("blobs"),
            "bytes": self._number("blob_bytes"),
            "free_bytes": self._number("store_free_bytes"),
        }

    def lines(self) -> list[tuple[str, str]]:
        """Return it for a person: titles and texts."""
        workers = f"{len(self.workers)} ({' '.join(map(str, self.workers))})"
        restarts = self._number("worker_restarts_total")
        lines = [
            ("address", url(self._settings)),
            ("workers", workers + (f", {restarts} died and were replaced" if restarts else "")),
            ("uptime", duration(self.uptime)),
            ("store", str(self._settings.store)),
        ]
        if self.failure is not None:
            return [*lines, ("answers", f"no: {self.failure}")]
        return lines + self._counted()

    def _counted(self) -> list[tuple[str, str]]:
        connections = self._by_label("connections") or {}
        files, size = self._number("blobs"), self._number("blob_bytes")
        noun = "file" if files == 1 else "files"
        stored = "being counted" if files is None else f"{files:,} {noun}, {amount(size or 0)}"
        requests = self._requests() or {}
        classes = [f"{number:,} {status}" for status, number in requests.items() if number]
        return [
            ("free", amount(self._number("store_free_bytes") or 0)),
            ("stored", stored),
            (
                "connections",
                ", ".join(f"{count} {state}" for state, count in connections.items()),
            ),
            ("requests", ", ".join(classes) or "none yet"),
            (
                "traffic",
                f"{amount(self._number('received_bytes_total') or 0)} in, "
                f"{amount(self._number('sent_bytes_total') or 0)} out",
            ),
        ]

    def _number(self, name: str) -> int | None:
        values = self._samples.get(name)
        return int(sum(values.values())) if values else None

    def _by_label(self, name: str) -> dict[str, int] | None:
        values = self._samples.get(name, {})
        return {labels[0]: int(value) for labels, value in values.items()} or None

    def _requests(self) -> dict[str, int] | None:
        """Return the requests by the class of their status: 2xx, 4xx."""
        if self.failure is not None:
            return None
        classes: dict[str, int] = {}
        for (_, status), value in sorted(
            self._samples.get("requests_total", {}).items(), key=lambda sample: sample[0][1]
        ):
            name = f"{status[0]}xx"
            classes[name] = classes.get(name, 0) + int(value)
        return classes


def print_status(pid: int, settings: Settings, *, as_json: bool) -> bool:
    """Tell of the daemon on stdout; return whether it answers."""
    status = Status(pid, settings)
    answers = status.failure is None
    if as_json:
        print(json.dumps(status.document()))
        return answers
    print(f"filestored {status.version} runs, pid {pid}")
    for title, text in status.lines():
        print(f"  {title:12}{text}")
    return answers


def amount(size: int) -> str:
    """Return bytes as a person says them: 1.5 GiB."""
    number, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{number:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them, in the two largest units."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    parts = [(days, "d"), (h, "h"), (m, "min"), (s, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])


class _UnixConnection(HTTPConnection):
    """A connection to a socket in the file system."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def _connection(settings: Settings) -> HTTPConnection:
    path = unix_path(settings)
    if path is not None:
        return _UnixConnection(path, timeout=PATIENCE_SECONDS)
    host = settings.host
    if is_open_to_all(settings):
        host = "::1" if ":" in host else "127.0.0.1"
    return HTTPConnection(host, settings.port, timeout=PATIENCE_SECONDS)


def _ask(settings: Settings) -> str:
    """Return what the daemon says of itself. Raises OSError, HTTPException, ValueError."""
    connection = _connection(settings)
    try:
        connection.request("GET", "/metrics", headers={"Host": "localhost", "Connection": "close"})
        response = connection.getresponse()
        content = response.read().decode()
        if response.status != 200:
            raise ValueError(f"it answers with status {response.status}")
        return content
    finally:
        connection.close()


def _samples(text: str) -> Samples:
    """Read the numbers out of what `/metrics` answers. Raises ValueError."""
    from prometheus_client.parser import text_string_to_metric_families

    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = samples.setdefault(sample.name.removeprefix(_PREFIX), {})
            values[tuple(sample.labels.values())] = sample.value
    return samples
