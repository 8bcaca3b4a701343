"""This project's daemon, as it is set up by default."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.peers.peer import PATIENCE, Peer, on_cores, said, with_children
from tests.daemons import PROJECT, Daemon


class Filestored(Peer):
    """Durable uploads, MD5, access log on."""

    title = "filestored"
    parts = frozenset({"get", "post", "up", "down", "start", "crowd", "memory"})
    package = "this project"
    method = "POST"
    named_by_client = False
    remembers = True
    flags: ClassVar[tuple[str, ...]] = ("--durability=full",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.daemon = Daemon(folder)
        self.launcher: subprocess.Popen[bytes] | None = None

    @classmethod
    def program(cls) -> str:
        return str(PROJECT / "main.py")

    @classmethod
    def version(cls) -> str:
        commit = said("git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--tags")
        return "" if "fatal" in commit else commit

    def command(self, workers: int) -> list[str]:
        own = ("--log=DEBUG", f"--port={self.port}", f"--workers={workers}")
        return self.daemon.line("start", *own, *self.flags)

    def begin(self, cores: Sequence[int]) -> None:
        """Start the daemon in the background, as its users do."""
        with on_cores(cores):
            self.launcher = subprocess.Popen(
                self.command(len(cores)), cwd=self.folder, env=self.daemon.env,
                start_new_session=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def answers(self) -> bool:
        return bool(self.ask("GET", "/healthz"))

    def start(self, cores: Sequence[int]) -> float:
        seconds = super().start(cores)
        assert self.launcher is not None
        self.launcher.wait(PATIENCE)
        self.daemon.pid = int(self.daemon.pidfile.read_text())
        return seconds

    def stop(self) -> None:
        """Stop it as a user would; and make sure, whatever state it is in."""
        if self.launcher is not None:
            self.launcher.wait(PATIENCE)
            self.daemon.end()
            self.launcher = None

    def processes(self) -> list[int]:
        return with_children(self.daemon.pid)

    def download_target(self, sent_to: str, answer: bytes) -> str:
        del sent_to
        return f"/?file_hash={answer.decode()}"


class Undurable(Filestored):
    """An acknowledged upload may be lost in a power cut, as with all other servers here."""

    title = "filestored, `--durability none`"
    parts = frozenset({"post"})
    flags = ("--durability=none",)


class Sha256(Filestored):
    """As by default, but for the hash."""

    title = "filestored, `--hash sha256`"
    parts = frozenset({"up", "down"})
    flags = ("--durability=full", "--hash=sha256")
