"""The launcher: takes what a daemon needs, goes into the background, and tells how it went.

What can be refused is refused before anything forks. What only the daemon itself can find out, as
another user and in another process, comes back over a pipe before the launching shell goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from daemon import DaemonContext
from loguru import logger

from httpd import log
from httpd.config import VERSION, Settings
from httpd.process.identity import Identity, find_identity
from httpd.process.listeners import (
    bound_port,
    is_open_to_all,
    open_listeners,
    remove_socket,
    unix_path,
    url,
)
from httpd.process.master import START_SECONDS, Master, RunWorker
from httpd.process.pidfile import PidFile
from httpd.process.readiness import NotReady, Pipe, Readiness, wait

# The workers of a master that was killed may still be on their way out with the port in their
# hands; nobody else's port is worth waiting for.
ORPHANS_SECONDS = 2.0
# The master gives up by itself when its workers do not come up; this is for when it cannot.
ANSWER_SECONDS = START_SECONDS + 5
UMASK = 0o027  # what the daemon makes, its group may read, and others may not
FOLDER_MODE = 0o750  # the same for what the launcher makes for it

OPEN_TO_ALL = (
    "it listens on every address of this machine, and whoever reaches it can store, fetch and "
    "delete files; --host 127.0.0.1 keeps it to this machine"
)


class Storage(Protocol):
    """What the process layer asks of a store."""

    def check_writable(self) -> None:
        """Raise OSError if nothing can be stored now."""

    def sweep(self) -> int:
        """Remove what dead processes have left half-done; return how much. Raises OSError."""


class Parts(NamedTuple):
    """What a daemon is made of besides its processes."""

    run_worker: RunWorker
    open_storage: Callable[[Settings], Storage]
    # Told of the settings while nothing is forked, bound or given up yet. Raises BadOption.
    prepare: Callable[[Settings], None] = lambda _settings: None


class Claim:
    """What a daemon holds from before its first fork to its end: pidfile, listeners, folders."""

    def __init__(self, settings: Settings, folders: dict[str, Path]) -> None:
        """Take everything, or nothing. `folders`: those to make, by what they are to a person.

        Raises AlreadyRunning, BadOption, NotReady, OSError.
        """
        self.identity = find_identity(settings)
        self.pidfile = PidFile(settings.pidfile)
        with ExitStack() as undo:
            self.pidfile.acquire()
            undo.callback(self.pidfile.release)
            patience = ORPHANS_SECONDS if self.pidfile.stale else 0
            self.listeners = open_listeners(settings, patience)
            self.settings = replace(settings, port=bound_port(self.listeners) or settings.port)
            undo.callback(self.release)
            # With the port that was found, so that a restart keeps it.
            self.pidfile.write_options(self.settings.flags())
            for title, folder in folders.items():
                _make_folder(title, folder, self.identity)
            self._hand_over()
            undo.pop_all()

    def close(self) -> None:
        """Close this process's copies; the daemon keeps its own."""
        for listener in self.listeners:
            listener.close()
        self.pidfile.close()

    def release(self) -> None:
        """Remove what tells of a daemon, the pidfile last, because it is also the lock."""
        for listener in self.listeners:
            listener.close()
        remove_socket(self.settings)
        self.pidfile.release()

    def _hand_over(self) -> None:
        """Give what was made here to the user that the daemon runs as."""
        path = unix_path(self.settings)
        for made in (self.pidfile.path, self.pidfile.options, *([Path(path)] if path else [])):
            self.identity.give(made)


class Console:
    """The readiness of a daemon in the foreground: told to whoever looks on."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings to tell of."""
        self._settings = settings

    def ready(self) -> None:
        """Tell where it listens."""
        _announce(self._settings, os.getpid())

    def failed(self, reason: str) -> None:
        """Tell why there is no daemon."""
        print(f"filestored: {reason}", file=sys.stderr)

    def close(self) -> None:
        """Keep the console: it is not ours."""


def start(settings: Settings, parts: Parts) -> None:
    """Start the daemon in the background; return when it serves.

    Raises AlreadyRunning, BadOption, NotReady, OSError.
    """
    _fill_streams()
    parts.prepare(settings)
    claim = Claim(settings, {"store": settings.store, "log folder": settings.log_dir})
    answer, tell = os.pipe()
    sys.stdout.flush()  # or the child would inherit, and print again, what is in the buffer
    child = os.fork()
    if child == 0:
        os.close(answer)
        pipe = Pipe(tell)
        context = _context(claim, files_preserve=[pipe], detach_process=True)
        os._exit(_be_master(claim, context, pipe, parts, settings.log_dir))
    os.close(tell)
    claim.close()
    with suppress(ChildProcessError):  # whoever ignores SIGCHLD has it reaped by the kernel
        os.waitpid(child, 0)  # the first of three generations: it leaves at once
    pid = wait(answer, ANSWER_SECONDS)
    os.close(answer)
    _announce(claim.settings, pid)


def run(settings: Settings, parts: Parts) -> int:
    """Be the daemon in the foreground, until a signal comes; return the exit code.

    Raises AlreadyRunning, BadOption, NotReady, OSError.
    """
    _fill_streams()
    parts.prepare(settings)
    claim = Claim(settings, {"store": settings.store})
    console = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    context = _context(claim, files_preserve=[], detach_process=False, **console)
    return _be_master(claim, context, Console(claim.settings), parts, None)


def _fill_streams() -> None:
    """Open the standard streams that we were started without.

    Their numbers would go to the pidfile and the listeners, and be lost when those are redirected.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as we run


def _context(claim: Claim, files_preserve: list[object], **options: object) -> DaemonContext:
    """Say everything that python-daemon would otherwise guess or choose badly.

    It keeps its hands off the signals, which the master takes, and off the pidfile, which is held
    since before the first fork. What it does at exit is nothing then; workers skip even that.
    """
    return DaemonContext(
        files_preserve=[*claim.listeners, claim.pidfile, *files_preserve],
        working_directory="/",  # keeps no file system from being unmounted
        umask=UMASK,
        uid=claim.identity.user,
        gid=claim.identity.group,
        signal_map={},
        pidfile=None,
        **options,
    )


def _be_master(
    claim: Claim, context: DaemonContext, readiness: Readiness, parts: Parts, logs: Path | None
) -> int:
    """Become the master process and serve; return the exit code."""
    failure: str | None = "stopped before it was ready"
    try:
        claim.identity.take_groups()
        context.open()
        failure = _serve(claim, readiness, parts, logs)
    except NotReady as error:
        failure = str(error)
    except Exception as error:
        logger.exception("the master failed")
        failure = f"{type(error).__name__}: {error}"
    finally:
        claim.release()
        if failure:
            readiness.failed(failure)
    return 1 if failure else 0


def _serve(claim: Claim, readiness: Readiness, parts: Parts, logs: Path | None) -> str | None:
    """Check what only the daemon's own user can, then let the master work; return its failure."""
    settings = claim.settings
    if logs:
        with _usable("log folder", logs):
            log.check_folder(logs)
    log.open_sinks(logs, settings.log)
    with _usable("store", settings.store):
        storage = parts.open_storage(settings)
        storage.check_writable()
        storage.sweep()
    logger.info("filestored {} starts on {}, store {}", VERSION, url(settings), settings.store)
    if is_open_to_all(settings):
        logger.warning(OPEN_TO_ALL)
    master = Master(
        settings, claim.listeners, claim.pidfile, readiness, parts.run_worker, storage.sweep
    )
    failure = master.run()
    logger.info("filestored has stopped")
    return failure


def _make_folder(title: str, folder: Path, identity: Identity) -> None:
    with _usable(title, folder):
        if not folder.is_dir():
            for missing in [each for each in reversed(folder.parents) if not each.is_dir()]:
                missing.mkdir()
                _flush(missing.parent)
            folder.mkdir(FOLDER_MODE)
            _flush(folder.parent)
            identity.give(folder)


def _flush(folder: Path) -> None:
    """Bring a folder's entries to disk: no store is safe in a folder that a power cut takes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _usable(title: str, folder: Path) -> Iterator[None]:
    """Turn an OSError into the reason of a failed start."""
    try:
        yield
    except OSError as error:
        raise NotReady(f"cannot use the {title} {folder}: {error.strerror or error}") from None


def _announce(settings: Settings, pid: int) -> None:
    path = unix_path(settings)
    target = f"--unix-socket {path} http://localhost/" if path else f"{url(settings, local=True)}/"
    with suppress(OSError):  # nobody may be reading
        print(f"filestored {VERSION} listening on {url(settings)}, pid {pid}")
        print(f"try: curl --data-binary @README.md {target}", flush=True)
        if is_open_to_all(settings):
            print(f"warning: {OPEN_TO_ALL}", file=sys.stderr)
