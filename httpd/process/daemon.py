"""The launcher: takes what a daemon needs, goes into the background, and tells how it went.

What can be refused is refused before anything forks. What only the daemon itself can find out, as
another user and in another process, comes back over a pipe before the launching shell goes on.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import NamedTuple, Protocol

from daemon import DaemonContext
from loguru import logger

from httpd import log, metrics
from httpd.config import VERSION, Settings, inheritance
from httpd.process.claim import Claim, take
from httpd.process.crew import START_SECONDS, Workers
from httpd.process.identity import Identity, find_identity
from httpd.process.listeners import is_open_to_all, lent_listeners, unix_path, url
from httpd.process.master import Master
from httpd.process.notify import Notifier
from httpd.process.orders import Conversation, Orders, orders_path
from httpd.process.pidfile import PidFile
from httpd.process.readiness import NotReady, Pipe, Readiness, wait
from httpd.process.renewal import NOBODY, Succession, find, own_program
from httpd.process.takeover import Heritage

# The master gives up by itself when its workers do not come up; this is for when it cannot.
ANSWER_SECONDS = START_SECONDS + 5
# While the store is put in order, that is told once in so many seconds, and is waited for.
GOES_ON_SECONDS = 1.0
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

    def sweep(self, goes_on: Callable[[], object] = ...) -> int:
        """Put in order what dead processes have left; return how much. Raises OSError.

        Calls `goes_on` again and again where that takes long.
        """


class Preparation(Protocol):
    """What is done while nothing is forked, bound or given up yet."""

    def __call__(self, settings: Settings, /, *, whole: bool) -> None:
        """Check the settings, and load what a worker begins with. Raises BadOption.

        `whole`: load what it is enough to have later, too. So it is where nobody waits for the
        first answer: what does not load is found out, and all workers share its memory.
        """


def _nothing(_settings: Settings, *, whole: bool) -> None:
    """Prepare nothing, where a worker needs nothing."""


class Parts(NamedTuple):
    """What a daemon is made of besides its processes."""

    # Called in the master: makes what its workers share, or goes on with what its earlier self has
    # left in a descriptor.
    make_workers: Callable[[Settings, int | None], Workers]
    open_storage: Callable[[Settings], Storage]
    prepare: Preparation = _nothing


class Console:
    """The readiness of a daemon in the foreground: told to whoever looks on."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings to tell of."""
        self._settings = settings

    def goes_on(self) -> None:
        """Leave that to the log."""

    def ready(self) -> None:
        """Tell where it listens."""
        _announce(self._settings, os.getpid())

    def failed(self, reason: str) -> None:
        """Tell why there is no daemon."""
        print(f"filestored: {reason}", file=sys.stderr)

    def close(self) -> None:
        """Keep the console: it is not ours."""


class Rehearsed:
    """The readiness of a rehearsal: it tells of its success, and is over."""

    def __init__(self, pipe: Pipe) -> None:
        """Take where to tell how it went."""
        self._pipe = pipe
        self.failed, self.close = pipe.failed, pipe.close

    def goes_on(self) -> None:
        """Leave that to the deadline of a rehearsal."""

    def ready(self) -> None:
        """Tell that all of it works, and end it."""
        self._pipe.ready()
        os.kill(os.getpid(), signal.SIGINT)


def start(settings: Settings, parts: Parts, heritage: Heritage | None = None) -> None:
    """Start the daemon in the background; return when it serves.

    `heritage`: what is taken over from a daemon that runs, which goes on if this one does not come
    up. Raises AlreadyRunning, BadOption, NotReady, OSError.
    """
    _fill_streams()
    parts.prepare(settings, whole=heritage is not None)
    program = own_program()
    claim = heritage.claim(settings, program) if heritage else take(settings, program)
    try:
        _make_folders(claim, {"store": settings.store, "log folder": settings.log_dir})
    except BaseException:
        claim.release()
        raise
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
    if heritage:
        claim.write_options()
        claim.give()
    _announce(claim.settings, pid)


def run(settings: Settings, parts: Parts) -> int:
    """Be the daemon in the foreground, until a signal comes; return the exit code.

    Raises AlreadyRunning, BadOption, NotReady, OSError.
    """
    _fill_streams()
    parts.prepare(settings, whole=False)
    inherited = inheritance()
    settings, lent = lent_listeners(settings, inherited.sockets)
    claim = take(settings, own_program(), lent)
    claim.detached = False
    claim.access_logs = inherited.logs
    try:
        _make_folders(claim, {"store": settings.store})
    except BaseException:
        claim.release()
        raise
    context = _foreground(claim)
    notifier = Notifier(inherited.notify_socket, inherited.watchdog)
    return _be_master(claim, context, Console(claim.settings), parts, None, notifier)


def go_on(settings: Settings, parts: Parts, descriptor: int) -> int:
    """Be the next self of a master, or rehearse that; return the exit code.

    `descriptor`: where the earlier self has left what it holds. Raises BadOption, OSError,
    TypeError, ValueError.
    """
    left = find(descriptor)
    parts.prepare(settings, whole=True)
    logs = settings.log_dir if left.detached else None
    if left.rehearsal != NOBODY:
        return _rehearse(settings, parts, Pipe(left.rehearsal), logs)
    claim = _carried(settings, left)
    with suppress(OSError):  # the folder may be root's, and the file with it
        claim.write_options()
    inherited = inheritance()
    claim.access_logs = None if left.detached else inherited.logs
    notifier = Notifier() if left.detached else Notifier(*inherited[:2])
    return _be_master(claim, nullcontext(), Pipe(-1), parts, logs, notifier, left)


def _rehearse(settings: Settings, parts: Parts, pipe: Pipe, logs: Path | None) -> int:
    """Start all that a daemon is, but for its listeners and with one worker, and end it."""
    if logs:
        log.check_folder(logs)
    identity = find_identity(replace(settings, user=None, group=None))
    settings = replace(settings, workers=1)
    claim = Claim(settings, identity, PidFile(settings.pidfile), None, [], [])
    claim.lent = True  # there is no socket's file to remove
    return _be_master(claim, nullcontext(), Rehearsed(pipe), parts, None)


def _carried(settings: Settings, left: Succession) -> Claim:
    """Return the claim that the earlier self has left."""
    pidfile = PidFile(settings.pidfile)
    pidfile.take_over(left.pidfile)
    identity = find_identity(replace(settings, user=None, group=None))
    orders = Orders(orders_path(settings.pidfile), left.orders)
    listeners = [socket(fileno=descriptor) for descriptor in left.listeners]
    claim = Claim(settings, identity, pidfile, orders, listeners, own_program())
    claim.lent, claim.detached = left.lent, left.detached
    claim.predecessors = [Conversation.found(each) for each in left.predecessors]
    return claim


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
    held = [*claim.listeners, claim.pidfile, claim.orders, *claim.predecessors]
    return DaemonContext(
        files_preserve=[*(each for each in held if each), *files_preserve],
        working_directory="/",  # keeps no file system from being unmounted
        umask=UMASK,
        uid=claim.identity.user,
        gid=claim.identity.group,
        signal_map={},
        pidfile=None,
        **options,
    )


def _foreground(claim: Claim) -> AbstractContextManager[object]:
    """Return the context of a daemon that stays with whoever has started it."""
    if claim.settings.user is None and claim.settings.group is None:
        # DaemonContext becomes somebody in any case, and a sandbox refuses even who one is.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory holds what clients have sent
        os.chdir("/")
        os.umask(UMASK)
        return nullcontext()
    console = {"stdin": sys.stdin, "stdout": sys.stdout, "stderr": sys.stderr}
    context: AbstractContextManager[object] = _context(
        claim, files_preserve=[], detach_process=False, **console
    )
    return context


def _be_master(
    claim: Claim,
    context: AbstractContextManager[object],
    readiness: Readiness,
    parts: Parts,
    logs: Path | None,
    notifier: Notifier | None = None,
    succession: Succession | None = None,
) -> int:
    """Become the master process and serve; return the exit code."""
    failure: str | None = "stopped before it was ready"
    try:
        if claim.settings.user or claim.settings.group:
            claim.identity.take_groups()
        context.__enter__()
        notifier = notifier or Notifier()
        storage = _open(claim, parts, logs, _telling(readiness, notifier))
        metrics.open_board(succession.board if succession else None)
        workers = parts.make_workers(claim.settings, succession.tally if succession else None)
        master = Master(claim, readiness, workers, storage.sweep, notifier, succession)
        failure = master.run()
        logger.info("filestored has stopped" if claim.ours else "the predecessor has left")
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


def _telling(readiness: Readiness, notifier: Notifier) -> Callable[[], None]:
    """Return what tells, now and then, whoever waits for the start that it goes on."""
    due = 0.0

    def tell() -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + GOES_ON_SECONDS
            readiness.goes_on()
            notifier.goes_on("putting back what a crash has left in the journals", ANSWER_SECONDS)

    return tell


def _open(claim: Claim, parts: Parts, logs: Path | None, goes_on: Callable[[], object]) -> Storage:
    """Open logs and store, and check what only the daemon's own user can."""
    settings = claim.settings
    if logs:
        with _usable("log folder", logs):
            log.check_folder(logs)
    log.open_sinks(logs, settings.log, claim.access_logs)
    with _usable("store", settings.store):
        storage = parts.open_storage(settings)
        storage.check_writable()
        storage.sweep(goes_on)
    logger.info("filestored {} starts on {}, store {}", VERSION, url(settings), settings.store)
    if is_open_to_all(settings):
        logger.warning(OPEN_TO_ALL)
    return storage


def _make_folders(claim: Claim, folders: dict[str, Path]) -> None:
    """Make the folders that are missing. `folders`: by what they are to a person."""
    for title, folder in folders.items():
        _make_folder(title, folder, claim.identity)


def _make_folder(title: str, folder: Path, identity: Identity) -> None:
    with _usable(title, folder):
        if not folder.is_dir():
            for missing in [each for each in reversed(folder.parents) if not each.exists()]:
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
