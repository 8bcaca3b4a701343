"""strace(1) on a process: what it does at its system calls, and what is done to it there."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from httpd.process import proc
from tests.daemons import PATIENCE, until

# All that changes a store or lets an answer out, by whatever name the libraries use.
WRITES = "write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,utimensat"
FLUSHES = "fsync,fdatasync,syncfs,sync_file_range,msync"
NAMES = "open,openat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir"
ANSWERS = "sendto,sendmsg,sendfile"
LOCKS = "flock,fcntl"
CALLS = ",".join((WRITES, FLUSHES, NAMES, ANSWERS))

_ATTACHED = re.compile(r"Process \d+ attached")
_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
_ENDED = re.compile(r"(?P<arguments>.*)\) += (?P<value>-?\d+).*")
_INJECTED = "(INJECTED)"
_UNFINISHED, _DETACHED = " <unfinished ...>", " <detached ...>"


@contextmanager
def attached(pid: int, *options: str, calls: str = CALLS, log: Path) -> Iterator[None]:
    """Trace these calls of all threads of a process within the body, with further options.

    What is seen is in the file `log`. Where the process is killed, the body goes on until it has
    ended.
    """
    command = ["strace", "-f", "-yy", "-s400", "-p", str(pid), "-o", str(log), f"-etrace={calls}"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        told = process.stderr.readline()
        assert _ATTACHED.search(told), told
        yield
    finally:
        if proc.stat(pid):
            process.terminate()  # which lets go of it
        # Else it ends by itself, and must not be told to: while it lets go of threads that die it
        # may wait for their leader, whose end waits until all of them have been waited for. One
        # that was told so a moment before they die is ended: nothing that it holds could ever end.
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        process.wait()
        process.stderr.close()


def wait_for_answers(log: Path, number: int, by: int | None = None) -> None:
    """Wait until a log has so many answers: they may be received before they are written down.

    Those of a process `by` that is killed in that moment, by a call of another thread, never are.
    """

    def is_told() -> bool:
        is_gone = by is not None and not proc.stat(by)
        return is_gone or sum(map(is_answer, read(log))) >= number

    until(is_told, "no answer")


def is_answer(call: Call) -> bool:
    """Tell whether it sends the answer to a request."""
    return '"HTTP/1.1 ' in call.arguments


def is_event(call: Call) -> bool:
    """Tell whether it tells the loop that a job of the pool is done (eventfd(2))."""
    return "<anon_inode:[eventfd]>" in call.arguments


def is_log_line(call: Call) -> bool:
    """Tell whether it writes to the log, which is standard output or standard error."""
    return call.name == "write" and call.arguments.startswith(("1<", "2<"))


def injected(log: Path) -> list[str]:
    """Return the lines of the calls that were made to fail.

    Where another thread's call comes in between, the arguments are in an earlier line.
    """
    begun: dict[str, str] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        pid = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line
        elif _INJECTED in line:
            found.append(begun[pid] + line if " resumed>" in line and pid in begun else line)
    return found


def kind_of(name: str, told: str, store: Path) -> str:
    """Return what is done, and to which of the store's places, whatever their random names.

    Something else that is done meanwhile, such as to count the store, or into how many pieces a
    large content is cut, makes another number of the same call the next time.
    """
    places = re.findall(re.escape(str(store)) + r'([^">]*)', told)
    return re.sub("[0-9a-f]{2,}", "*", f"{name} {places}")


def killing(call: str, number: int) -> str:
    """Kill it at the entry of the `number`th such call of a thread, which is not made."""
    return f"-einject={call}:signal=KILL:when={number}"


def failing(call: str, number: int, error: str) -> str:
    """Have the `number`th such call of a thread fail with this error, without being made."""
    return f"-einject={call}:error={error}:when={number}"


class Call(NamedTuple):
    """A system call that was made. `begun` and `ended` are moments, as line numbers."""

    begun: int
    ended: int
    thread: int
    name: str
    arguments: str
    value: int  # -1 where it failed
    order: int  # counted by thread and name, from 1: as `killing` counts

    @property
    def failed(self) -> bool:
        return self.value < 0


def read(log: Path) -> list[Call]:
    """Return the calls in a log in the order in which they began.

    One that its process did not survive is left out; one that strace did not wait for has ended.
    """
    calls: list[Call] = []
    open_calls: dict[int, tuple[int, str, int, str]] = {}
    counts: Counter[tuple[int, str]] = Counter()
    whole_lines, _, _ = log.read_text(errors="replace").rpartition("\n")
    for moment, line in enumerate(whole_lines.splitlines()):
        match = _LINE.fullmatch(line)
        assert match, line
        thread, rest = int(match["thread"]), match["rest"]
        if rest.startswith(("---", "+++")):
            continue
        if resumed := _RESUMED.fullmatch(rest):
            begun, name, order, arguments = open_calls.pop(thread)
            rest = arguments + resumed["rest"]
        else:
            begun, (name, _, rest) = moment, rest.partition("(")
            counts[thread, name] += 1
            order = counts[thread, name]
        if rest.endswith(_UNFINISHED):
            open_calls[thread] = begun, name, order, rest.removesuffix(_UNFINISHED)
        elif rest.endswith(_DETACHED):
            arguments = rest.removesuffix(_DETACHED)
            calls.append(Call(begun, moment, thread, name, arguments, 0, order))
        elif ended := _ENDED.fullmatch(rest):
            value = int(ended["value"])
            calls.append(Call(begun, moment, thread, name, ended["arguments"], value, order))
    return sorted(calls)
