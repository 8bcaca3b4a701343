"""A daemon as its users see it: requests by path, and what then lies in its store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from tests.daemons import PATIENCE, Daemon


class Service(requests.Session):
    """Requests by path to one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__()
        self.daemon = daemon
        self.trust_env = False  # no proxy of the machine's comes in between

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = PATIENCE
        return super().request(method, f"{self.daemon.url}{url}", *args, **options)

    def get_file(self, digest: str, query: str = "", **fields: str) -> requests.Response:
        """Fetch by digest; `fields` are header fields, with "_" for "-"."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.get(f"/?file_hash={digest}{query}", headers=headers)


@contextmanager
def service_as_nobody() -> Iterator[Service]:
    """Give a daemon that root has started, and that runs as another user."""
    with TemporaryDirectory() as folder:  # which pytest's own folders would keep it out of
        Path(folder).chmod(0o755)
        daemon = Daemon(Path(folder))
        with Service(daemon) as service:
            try:
                daemon.start("--user=nobody")
                yield service
            finally:
                daemon.end()


def path_in(store: Path, digest: str) -> Path:
    """Return where a blob lies."""
    return store / digest[:2] / digest


def blobs_in(store: Path) -> set[str]:
    """Return the names of all blobs."""
    return {file.name for file in store.glob("??/*")}
