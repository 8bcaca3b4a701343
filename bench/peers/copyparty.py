"""copyparty, a file server in Python with threads; it hashes uploads and flushes nothing."""

from __future__ import annotations

from bench.peers.peer import INSTALLED, Peer, said


class Copyparty(Peer):
    """Without thumbnails, index or messages; a process a core."""

    title = "copyparty"
    parts = frozenset({"get", "post", "up", "down", "start"})
    package = "copyparty of bench/requirements.txt"

    @classmethod
    def program(cls) -> str | None:
        path = INSTALLED / "copyparty"
        return str(path) if path.exists() else None

    @classmethod
    def version(cls) -> str:
        return said(str(cls.program()), "--version").split()[1].removeprefix("v")

    def command(self, workers: int) -> list[str]:
        return [
            str(self.program()), "-q", "-i", "127.0.0.1", "-p", str(self.port), "-j", str(workers),
            "-v", f"{self.data}::rwd", "-nc", "16384", "--http-only", "--no-thumb", "--no-crt",
        ]  # fmt: skip
