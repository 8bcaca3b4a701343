"""Files that are not in memory, on a disk that stands still: who asks for one waits, nobody else.

The disk is a loop device on a file of a FUSE file system (bindfs). While the process of that is
stopped nothing that is not in the page cache can be read, for as long as the test wants.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import socket

import pytest

from tests import raw
from tests.crash.disk import syncfs
from tests.daemons import PATIENCE, Daemon, until
from tests.service import Service, path_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("bindfs"), reason="needs the package bindfs"),
]

SIZE = 64 << 20  # of the disk
BIG = 5 << 20  # several turns of sendfile
ENOUGH = 20  # answers to others


class SlowDisk:
    """An ext4 file system at `path`, whose device can stand still."""

    def __init__(self, path: Path, folder: Path, stack: ExitStack) -> None:
        """Make it in `folder` and mount it at `path`; the stack takes it away."""
        self.path = path
        below, through = folder / "below", folder / "through"
        for each in below, through, path:
            each.mkdir()
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(SIZE)
        _run("mkfs.ext4", "-q", str(image))
        self._process = subprocess.Popen(["bindfs", "-f", below, through])
        stack.callback(self._process.wait)
        stack.callback(_run, "umount", str(through))
        until(lambda: os.path.ismount(through), "bindfs does not mount")
        # Past the page cache of the file below it, or that would answer for the disk.
        device = _run("losetup", "--find", "--show", "--direct-io=on", str(through / "image"))
        stack.callback(_run, "losetup", "--detach", device)
        # noatime: reading leaves nothing to be written.
        _run("mount", "-o", "noatime", device, str(self.path))
        stack.callback(_run, "umount", str(self.path))

    @contextmanager
    def standing_still(self, cold: Path) -> Iterator[None]:
        """Read and write nothing meanwhile, and have no byte of the `cold` file in memory."""
        syncfs(self.path)
        self._process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # each of its threads
            with cold.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                # To look has the kernel begin to read: so not before the disk stands still.
                with pytest.raises(BlockingIOError):
                    os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def disk(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDisk]:
    """A disk for the store of the test's daemon. Its process is not to pass for one of that's."""
    with ExitStack() as stack:
        yield SlowDisk(tmp_path / "store", tmp_path_factory.mktemp("disk"), stack)


@pytest.fixture
def service(disk: SlowDisk, daemon: Daemon) -> Iterator[Service]:
    """Requests to a daemon of one worker, whose store is on that disk."""
    daemon.start("--workers=1")
    with Service(daemon) as service:
        yield service
    daemon.stop()


def ask_for(daemon: Daemon, digest: str, *fields: str) -> socket:
    """Send the last request of a connection."""
    client = daemon.connect()
    client.sendall(raw.head(f"GET /?file_hash={digest}", "Connection: close", *fields))
    return client


@pytest.mark.parametrize(
    ("size", "fields"),
    [(4096, ()), (BIG, ()), (BIG, ("Range: bytes=3000000-3000999",))],
    ids=["small", "big", "part"],
)
def test_who_asks_for_a_cold_file_holds_up_nobody(
    disk: SlowDisk, daemon: Daemon, service: Service, size: int, fields: tuple[str, ...]
) -> None:
    content, other = os.urandom(size), os.urandom(size)
    digest, warm = (service.post("/", data=each).text for each in (content, other))
    until(lambda: service.get_file(warm).content == other)
    with disk.standing_still(path_in(daemon.store, digest)):
        client = ask_for(daemon, digest, *fields)
        for _ in range(ENOUGH):
            assert service.get("/healthz").status_code == 200
            assert service.get_file(warm).content == other
            service.close()  # the next ones come on another connection
        client.setblocking(False)
        early = b""
        with suppress(BlockingIOError):
            early = client.recv(1 << 20)
        assert not early.partition(b"\r\n\r\n")[2]  # the head at most
        client.settimeout(PATIENCE)
    with client:
        answer = raw.answer_in(early + raw.receive_all(client))
    assert answer.status == (206 if fields else 200)
    assert answer.content == (content[3000000:3001000] if fields else content)
