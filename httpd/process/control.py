"""The commands, most of which act on a daemon that runs already."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from httpd import config
from httpd.config import BadOption, Settings
from httpd.process import proc
from httpd.process.pidfile import AlreadyRunning, read_options, read_pid
from httpd.process.readiness import NotReady

if TYPE_CHECKING:
    from httpd.process.daemon import Parts

# Exit codes: those of argparse and, for status, of the Linux Standard Base (LSB 5.0, 22.2).
FAILED, WRONG_OPTION, NOT_RUNNING, UNKNOWN = 1, 2, 3, 4
INTERRUPTED = 128 + signal.SIGINT  # as a shell counts it
# Beyond the drain timeout: the master kills what is late, and then tidies up.
PATIENCE_SECONDS = 5.0
KILLED_SECONDS = 5.0  # until the kernel has taken apart what was killed, in mid-write perhaps


class Call(NamedTuple):
    """What the user has asked for."""

    words: Sequence[str]  # the command line
    home: Path
    settings: Settings
    # Here and below, what makes a daemon is imported where one is made: the others answer sooner.
    parts: Callable[[], Parts]


class Running(NamedTuple):
    """A daemon that runs."""

    pid: int
    settings: Settings  # its own, whatever the caller's are


def main(argv: Sequence[str], home: Path, parts: Callable[[], Parts] | None = None) -> int:
    """Obey a command line; return the exit code. `home`: the folder of main.py."""
    left = config.inheritance().succession
    try:
        # An earlier self has resolved all that the surroundings say.
        command, settings = config.read(argv, home, None if left is None else ())
        call = Call(argv, home, settings, parts or _own_parts)
        if left is not None:
            return go_on(call, left)
        return COMMANDS[command](call)
    except BadOption as error:
        return _complain(str(error), WRONG_OPTION)
    except (AlreadyRunning, NotReady) as error:
        return _complain(str(error), FAILED)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _complain(f"{what}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def go_on(call: Call, left: int) -> int:
    """Be the daemon that an earlier self has left in a descriptor."""
    parts = call.parts()
    from httpd.process import daemon

    return daemon.go_on(call.settings, parts, left)


def installed() -> int:
    """Be the command `filestored`, which pip installs."""
    return main(sys.argv[1:], config.installed_home())


def start(call: Call) -> int:
    """Start the daemon; it serves when this returns."""
    parts = call.parts()
    from httpd.process import daemon

    daemon.start(call.settings, parts)
    return 0


def run(call: Call) -> int:
    """Be the daemon, in the foreground."""
    parts = call.parts()
    from httpd.process import daemon

    return daemon.run(call.settings, parts)


def stop(call: Call) -> int:
    """Stop the daemon; its last process is gone when this returns."""
    running = _find(call)
    if running is None:
        # What was wanted is so already, as for any service (LSB 5.0, 22.2).
        print("nothing runs")
    else:
        _end(running)
    return 0


def restart(call: Call) -> int:
    """Start the daemon anew with the options it had and with those given now.

    Nothing of the one that runs is given up before the new one serves, so neither a slip in an
    option nor new code that does not start costs a daemon.
    """
    parts = call.parts()
    from httpd.process import daemon, takeover

    running = _find(call)
    if running is None:
        daemon.start(call.settings, parts)
        return 0
    settings = _merged(running, call)
    try:
        heritage = takeover.ask_for(settings.pidfile, running.settings)
        daemon.start(settings, parts, heritage)
    except takeover.InForeground:
        return _renew(running, settings)
    except takeover.Cannot:
        parts.prepare(settings, whole=True)
        _end(running)
        daemon.start(settings, parts)
    return 0


def _renew(running: Running, settings: Settings) -> int:
    """Restart a daemon whose pid somebody watches, which is why it has to keep it."""
    from httpd.process import takeover

    for key in ("host", "port", "user", "group"):
        if getattr(running.settings, key) != getattr(settings, key):
            reason = f"it runs in the foreground: stop it there to change {config.flag(key)}"
            return _complain(reason, FAILED)
    pid = takeover.reload(settings.pidfile, settings.flags(elsewhere=True))
    print(f"filestored has restarted, pid {pid}")
    return 0


def reload(call: Call) -> int:
    """Let the daemon take up new code; it serves with it when this returns."""
    from httpd.process import takeover

    try:
        # At once, as in a sandbox a process may not see the one that it speaks with.
        pid = takeover.reload(call.settings.pidfile)
    except takeover.Cannot:
        running = _find(call)
        reason = f"it does not answer, pid {running.pid}" if running else "nothing runs"
        return _complain(reason, FAILED)
    print(f"filestored has reloaded, pid {pid}")
    return 0


def verify(call: Call) -> int:
    """Check the store, that of the daemon if it runs."""
    from httpd.process import upkeep

    return upkeep.verify(_settings_in_use(call), config.read_task(call.words))


def import_store(call: Call) -> int:
    """Take an older store into this one, into that of the daemon if it runs."""
    from httpd.process import upkeep

    return upkeep.import_store(_settings_in_use(call), config.read_task(call.words))


def get_pid(call: Call) -> int:
    """Print the master's pid and nothing else."""
    pid = read_pid(call.settings.pidfile)
    if pid is None:
        return _complain("nothing runs", FAILED)
    print(pid)
    return 0


def status(call: Call) -> int:
    """Tell a person about the daemon, or a script."""
    from httpd.process.status import print_status

    as_json = config.read_task(call.words).json
    running = _find(call)
    if running is None:
        print('{"running": false}' if as_json else "nothing runs")
        return NOT_RUNNING
    answers = print_status(running.pid, running.settings, as_json=as_json)
    return 0 if answers else UNKNOWN


COMMANDS: dict[str, Callable[[Call], int]] = {
    "start": start,
    "stop": stop,
    "restart": restart,
    "reload": reload,
    "status": status,
    "get_pid": get_pid,
    "run": run,
    "verify": verify,
    "import": import_store,
}


def _own_parts() -> Parts:
    # Nothing of what is loaded here is ever garbage: not to look for any takes 40 ms off a start
    # of 240, at the loading and at the launcher's end.
    gc.disable()
    from httpd.process.daemon import Parts
    from httpd.process.worker import make_workers, open_storage, prepare

    gc.freeze()
    gc.enable()
    return Parts(make_workers, open_storage, prepare)


def _find(call: Call) -> Running | None:
    """Return the daemon that the pidfile tells of, if it runs. Raises OSError."""
    pid = read_pid(call.settings.pidfile)
    if pid is None:
        return None
    settings = call.settings
    # The flags may be another user's, or another version's: then the caller's are the best guess.
    with suppress(OSError, ValueError, BadOption, SystemExit):
        _, settings = config.read(read_options(call.settings.pidfile), call.home, ())
    return Running(pid, settings)


def _merged(running: Running, call: Call) -> Settings:
    """Return the settings of a daemon with those that the caller has given. Raises BadOption."""
    return config.read([*running.settings.flags(), *call.words], call.home, ())[1]


def _settings_in_use(call: Call) -> Settings:
    """Return the settings of the store that is meant: the running daemon's, unless told of another.

    One store must not be compared with the database of another.
    """
    running = _find(call)
    merged = call.settings if running is None else _merged(running, call)
    return merged if running is None or merged.store == running.settings.store else call.settings


def _end(running: Running) -> None:
    """Stop a daemon, and its last process with it, by force where it takes too long.

    Waits on descriptors of processes (pidfd_open(2)): no pid is mistaken for the next process
    that gets it, and a zombie, which PID 1 may be slow to reap, counts as gone.
    """
    pid = running.pid
    patience = running.settings.drain_timeout + PATIENCE_SECONDS
    with ExitStack() as opened:
        watched = _watch([pid, *proc.children(pid)], opened)
        with suppress(KeyError, ProcessLookupError):  # it may have gone by itself
            signal.pidfd_send_signal(watched[pid], signal.SIGTERM)
        if _all_gone(watched.values(), patience):
            print(f"filestored stopped, pid {pid}")
            return
        # The master first, so that it replaces nobody; its youngest workers are not in our list.
        late = watched | _watch(proc.children(pid), opened)
        for descriptor in late.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        if not _all_gone(late.values(), KILLED_SECONDS):
            raise NotReady(f"cannot be stopped, not even by force: pid {pid}")
        print(f"filestored was killed after {patience:.0f} s, pid {pid}")


def _watch(pids: Iterable[int], opened: ExitStack) -> dict[int, int]:
    """Open a descriptor for every process of these that is still there."""
    watched = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            watched[pid] = os.pidfd_open(pid)
            opened.callback(os.close, watched[pid])
    return watched


def _all_gone(descriptors: Iterable[int], timeout: float) -> bool:
    """Wait until every process has ended; tell whether that came to pass in time."""
    deadline = time.monotonic() + timeout
    poll = select.poll()
    alive = set(descriptors)
    for descriptor in alive:
        poll.register(descriptor, select.POLLIN)
    while alive:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            return False
        for descriptor, _ in ended:
            poll.unregister(descriptor)
            alive.discard(descriptor)
    return True


def _complain(reason: str, code: int) -> int:
    print(f"filestored: {reason}", file=sys.stderr)
    return code
