"""Requests that held up, blew up or brought down other Python servers.

Every one is sent to a daemon with one worker. A worker that took quadratic time over what is sent
here would not have answered by the end of the test's patience.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import raw
from tests.daemons import Daemon, until
from tests.past_faults.attacks import CODING, answers, chunked
from tests.service import Service

MIB = 1 << 20
KEPT = b"hello" * 10_000  # longer than all ranges of a request taken together
DIGEST = hashlib.md5(KEPT).hexdigest()


def answered(daemon: Daemon, sent: bytes) -> list[int]:
    """Return the statuses of the answers, and see that the next client gets one, too."""
    with suppress(ConnectionResetError, BrokenPipeError):  # it need not have taken all of it
        statuses = [answer.status for answer in answers(daemon, sent)]
    assert [answer.status for answer in answers(daemon, raw.head("GET /healthz"))] == [200]
    return statuses


def form(body: bytes) -> bytes:
    """Return an upload of a form with that body, whatever it is."""
    return raw.post(body, f"Content-Type: multipart/form-data; boundary={raw.BOUNDARY}")


FILE = raw.part(raw.FILE, b"hello")
END = b"--frontier--\r\n"
KIND = "Content-Type: multipart/form-data; boundary=frontier"

# What it is, what went wrong there, what is sent, and what is answered.
HEADS: dict[str, tuple[bytes, list[int]]] = {
    # waitress GHSA-73m2-3pwg-5fgc: the pattern for values tried every place where one might end
    "CVE-2020-5236 value with a control character at its end": (
        raw.head("GET /", f"Bad: {'x' * 16_000}\x10"), [400]),
    "CVE-2020-5236 value of spaces": (raw.head("GET /", f"Bad: {' ' * 16_000}\x10"), [400]),
    # Tornado GHSA-c98p-7wgm-6p64: every repetition of a field copied all that came before
    "CVE-2025-67725 repeated field": (raw.head("GET /healthz", *["X: " + "y" * 150] * 95), [200]),
    # Tornado GHSA-pcg2-g6cj-q92c: the same for continuation lines
    "GHSA-pcg2-g6cj-q92c folded lines": (raw.head("GET /", "X: y", *[" z"] * 4000), [400]),
    # Tornado GHSA-8w49-h785-mj3c: unquoting a cookie took quadratic time
    "CVE-2024-52804 cookie of escapes": (
        raw.head("GET /healthz", 'Cookie: a="' + "\\054" * 3900 + '"'), [200]),
    # Tornado: parameters of a field were split in quadratic time
    "CVE-2025-67726 parameters in quotes": (
        raw.post(b"x", "Content-Disposition: form-data; " + 'a=";' * 3900), [200]),
    # aiohttp: every malformed cookie was a warning in the log
    "CVE-2025-69230 malformed cookies": (
        raw.head("GET /healthz", "Cookie: " + "\xff=;" * 5000), [200]),
    # Gunicorn: a line without an end was collected for ever
    "CVE-2026-134821 request line without end": (b"GET /" + b"x" * MIB, [414]),
    "CVE-2026-134821 method without end": (b"X" * MIB, [400]),
    "CVE-2026-134821 field without end": (raw.head("GET /")[:-2] + b"X: " + b"y" * MIB, [431]),
    "CVE-2026-134821 chunk size without end": (chunked(b"0" * MIB), [400]),
    "CVE-2026-134821 extension without end": (
        chunked(b"5;" + b"a" * MIB + b"\r\nhello\r\n0\r\n\r\n"), [400]),
    "CVE-2026-134821 trailer without end": (
        chunked(b"0\r\nX: " + b"y" * MIB + b"\r\n\r\n"), [400]),
    # aiohttp GHSA-w2fm-2cpv-w7v5: any number of trailers was kept
    "CVE-2026-22815 trailers without end": (
        chunked(b"0\r\n" + b"X: y\r\n" * 200_000 + b"\r\n"), [400]),
    # Starlette GHSA-7f5h-v6xp-fcq8: ranges were merged in quadratic time
    "CVE-2025-62727 many ranges": (
        raw.head(f"GET /?file_hash={DIGEST}",
                 "Range: bytes=" + ",".join(["0-0"] * 4000)), [200]),
    "CVE-2025-62727 range of digits": (
        raw.head(f"GET /?file_hash={DIGEST}",
                 "Range: bytes=" + "0" * 16_000), [200]),
}  # fmt: skip

BODIES: dict[str, tuple[bytes, list[int]]] = {
    # aiohttp GHSA-g84x-mcqj-x9qq: every small chunk cost the time of all before it
    "CVE-2025-69229 many small chunks": (chunked(b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"), [200]),
    # aiohttp: a form that was cut off sent the parser round in circles
    "CVE-2024-30251 form that is cut off": (form(FILE), [400]),
    "CVE-2024-30251 form without an end of lines": (form(b"--frontier\r\nContent-Disp"), [400]),
    "CVE-2025-69227 form of nothing": (form(b""), [400]),
    # aiohttp: all fields of a form were read into memory
    "CVE-2025-69228 large field": (form(raw.part('name="a"', b"x" * 8 * MIB) + FILE + END), [413]),
    # aiohttp: the fields in the head of a part had no bound
    "CVE-2026-34516 fields of a part": (
        form(b"--frontier\r\n" + b"X: y\r\n" * 200_000 + b"\r\n"), [413]),
    "CVE-2026-42561 field of a part": (
        form(b"--frontier\r\nX: " + b"y" * MIB + b"\r\n\r\n"), [413]),
    # Tornado, and CVE-2023-25577 Werkzeug: parts had no number that was too large
    "CVE-2026-31958 many parts": (form(raw.part('name="a"', b"") * 5000 + FILE + END), [413]),
    "CVE-2023-25577 many files": (form(raw.part(raw.FILE, b"") * 1500 + END), [413]),
    # Tornado GHSA-7cx3-6m66-7c5m: every malformed part was a line in the log
    "CVE-2025-47287 malformed parts": (form(b"--frontier\r\nbad\r\n\r\n\r\n" * 5000 + END), [400]),
    # Werkzeug GHSA-hrfv-mqp8-q5rw: what follows a line end was searched again with every piece
    "CVE-2023-46136 line end and then nothing like it": (
        form(raw.part(raw.FILE, b"\r" + b"x" * 16 * MIB) + END), [200]),
    "CVE-2023-46136 nothing but line ends": (
        form(raw.part(raw.FILE, b"\r\n" * 4 * MIB) + END), [200]),
    # python-multipart: what is before and behind the parts was looked at byte by byte
    "CVE-2024-53981 line ends before the parts": (form(b"\r\n" * 4 * MIB + FILE + END), [200]),
    "CVE-2026-40347 much before the parts": (form(b"x" * 8 * MIB + b"\r\n" + FILE + END), [200]),
    "CVE-2026-40347 much behind the parts": (form(FILE + END + b"x" * 8 * MIB), [200]),
    # multipart: the pattern for options could read the same text in many ways
    "CVE-2026-28356 options of a type": (
        raw.post(b"x", 'Content-Type: multipart/form-data; a="' + '\\"' * 7000), [400]),
    # python-multipart: the same
    "CVE-2024-24762 options of backslashes": (
        raw.post(b"x", 'Content-Type: text/plain; !="' + "\\" * 15_000), [200]),
}  # fmt: skip


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("single"))
    daemon.start("--workers=1", "--threads=2")
    until(daemon.loaded)
    with Service(daemon) as service:
        assert service.post("/", data=KEPT).text == DIGEST
    yield daemon
    daemon.end()


@pytest.mark.parametrize(("sent", "statuses"), HEADS.values(), ids=HEADS)
def test_head(sent: bytes, statuses: list[int], single: Daemon) -> None:
    lines = single.life_log().count("\n")
    assert answered(single, sent) == statuses
    assert single.life_log().count("\n") == lines


@pytest.mark.parametrize(("sent", "statuses"), BODIES.values(), ids=BODIES)
def test_content(sent: bytes, statuses: list[int], single: Daemon) -> None:
    lines = single.life_log().count("\n")
    assert answered(single, sent) == statuses
    assert single.life_log().count("\n") == lines
    until(lambda: not single.staged(), "something stays staged")


def growth(daemon: Daemon, act: Callable[[], None]) -> int:
    """Return by how many bytes the daemon grows at most while something is done to it."""
    act()  # once without looking, as what is made only once is no growth
    before = daemon.memory(anew=True)
    act()
    return daemon.memory() - before


def test_cve_2026_54273_pipelined_requests_without_end(single: Daemon) -> None:
    """aiohttp: requests were read and queued for as long as a client sent them."""
    request = raw.head(f"GET /?file_hash={DIGEST}&x=" + "y" * 500)

    def flood() -> None:
        with single.connect() as client:
            client.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):  # the daemon takes no more, as nobody reads
                while sent < 64 * MIB:
                    sent += client.send(request * 100)
            assert sent < 64 * MIB

    assert growth(single, flood) < 4 * MIB


def test_cve_2024_52303_paths_that_are_all_different(single: Daemon) -> None:
    """aiohttp: every unknown path was remembered."""

    def ask() -> None:
        sent = b"".join(raw.head(f"GET /{os.urandom(2000).hex()}") for _ in range(1500))
        assert {answer.status for answer in answers(single, sent)} == {404}

    assert growth(single, ask) < 4 * MIB


def test_cve_2024_49769_clients_that_are_gone_when_they_are_accepted(single: Daemon) -> None:
    """waitress GHSA-3f84-rpwh-47g6: their sockets were never closed, and kept it busy."""
    (worker,) = single.workers()
    before = len(os.listdir(f"/proc/{worker}/fd"))
    for _ in range(200):
        client = single.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # by a reset
    assert answered(single, raw.head("GET /healthz")) == [200]
    until(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= before, "descriptors stay open")
    until(lambda: sleeps(worker), "it is busy with nobody")


def sleeps(pid: int) -> bool:
    """Tell whether a process has nothing to do: it is not running, and has used no time lately."""
    return _used(pid) == _used(pid) and "S (sleeping)" in Path(f"/proc/{pid}/status").read_text()


def _used(pid: int) -> int:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def test_cve_2022_31015_clients_that_leave_in_the_middle(single: Daemon) -> None:
    """waitress GHSA-f5x9-8jwc-25rw: one that left at the wrong moment took the process with it."""
    (worker,) = single.workers()
    for length in range(0, 120, 3):
        with single.connect() as client:
            client.sendall((raw.head("POST /", CODING) + b"5\r\nhello\r\n0\r\n\r\n")[:length])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert answered(single, raw.head("GET /healthz")) == [200]
    assert single.workers() == {worker}
    until(lambda: not single.staged(), "something stays staged")
