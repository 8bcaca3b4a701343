"""A small server of files as one writes it with aiohttp: static files, uploads with their MD5."""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import INSTALLED, Peer, said

SERVER = Path(__file__).with_name("aiohttp_server.py")


class Aiohttp(Peer):
    """No access log, which would cost it half of its speed; a process a core; no flush."""

    title = "aiohttp"
    parts = frozenset({"get", "post", "up", "down", "start"})
    package = "aiohttp of bench/requirements.txt"

    @classmethod
    def program(cls) -> str | None:
        python = INSTALLED / "python"
        return str(python) if said(str(python), "-c", "import aiohttp") == "" else None

    @classmethod
    def version(cls) -> str:
        return said(str(cls.program()), "-c", "import aiohttp; print(aiohttp.__version__)")

    def command(self, workers: int) -> list[str | Path]:
        # -P: what lies beside the script is not for import; this file has the library's name.
        return [str(self.program()), "-P", SERVER, str(self.port), str(workers), self.data]
