"""A Docker engine of the tests' own: no bridge, no iptables, and nothing of it is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.daemons import until

LONGEST = 300.0  # seconds, of a build
# What is mounted below is seen by nobody else, and gone with the process: no clean-up can ever walk
# into the machine's own files (unshare(1)).
APART = ("unshare", "--mount", "--propagation=private")
GROUPS = Path("/sys/fs/cgroup")
NO_NETWORK = (
    "--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false",
    "--exec-opt=native.cgroupdriver=cgroupfs",
)  # fmt: skip


class Engine:
    """A dockerd, within a `with`."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder; its path must be short, as there will be sockets in it."""
        self._folder = folder
        self.env = {**os.environ, "DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "0"}

    def __enter__(self) -> Engine:
        """Start it; return when it answers."""
        folder = self._folder
        own = [f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
        own += [f"--cgroup-parent=/{folder.name}"]
        own += [f"--host=unix://{folder}/socket", f"--pidfile={folder}/pid"]
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                [*APART, "dockerd", *NO_NETWORK, *own], stdout=log, stderr=log
            )
        try:
            until(self._answers, f"see {folder}/log")
        except AssertionError:
            print((folder / "log").read_text()[-4000:])
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and take away what it has made."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        # With cgroups of version 1 each controller has the group.
        for group in (GROUPS / self._folder.name, *GROUPS.glob(f"*/{self._folder.name}")):
            for path in sorted((group, *group.rglob("*/")), reverse=True):
                with suppress(OSError):
                    path.rmdir()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __call__(self, *line: str, check: bool = True) -> str:
        """Run a command of docker's; return what it prints."""
        done = subprocess.run(
            ["docker", *line], env=self.env, capture_output=True, text=True, timeout=LONGEST,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def logs(self, container: str) -> tuple[str, str]:
        """Return what a container has written to stdout and to stderr."""
        done = subprocess.run(
            ["docker", "logs", container], env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout, done.stderr

    def _answers(self) -> bool:
        return subprocess.run(["docker", "info"], env=self.env, capture_output=True).returncode == 0
