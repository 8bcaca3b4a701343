"""The coreutils that do nothing but hash a file: what an upload with a hash cannot beat by much."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.peers.peer import Peer, on_cores, said


class Md5sum(Peer):
    """No server at all: it takes a file by reading it."""

    title = "`md5sum` of the file"
    parts = frozenset({"up"})
    package = "coreutils"
    named_by_client = False
    name: ClassVar[str] = "md5sum"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which(cls.name)

    @classmethod
    def version(cls) -> str:
        return said(cls.name, "--version").splitlines()[0].rpartition(" ")[2]

    def command(self, workers: int) -> Sequence[str | Path]:
        del workers
        return [self.name]

    def begin(self, cores: Sequence[int]) -> None:
        """Remember where to run."""
        self.cores = cores

    def answers(self) -> bool:
        return True

    def cpu(self) -> float:
        """Return what the commands that have ended used."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def read(self, file: Path) -> None:
        """Hash a file."""
        with on_cores(self.cores):
            subprocess.run([self.name, file], check=True, stdout=subprocess.DEVNULL)


class Sha256sum(Md5sum):
    """The same with the other hash."""

    title = "`sha256sum` of the file"
    name = "sha256sum"
