"""A restart: a new daemon takes listeners and pidfile from the one that runs, and nobody notices.

The launcher asks the master for them and goes on as in any start. So whoever restarts it may be
root where the daemon is not: another user, another port or a folder that only root can make are no
obstacle. The old master goes on until the new one serves, and for good if it does not.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from socket import socket
from typing import NamedTuple

from httpd.config import BadOption, Settings, read
from httpd.process.claim import Claim
from httpd.process.crew import START_SECONDS
from httpd.process.identity import find_identity
from httpd.process.listeners import bound_port, open_listeners, queue
from httpd.process.orders import Conversation, Orders, converse, orders_path
from httpd.process.pidfile import PidFile
from httpd.process.readiness import NotReady

# A worker comes up in the rehearsal, then others in the daemon itself.
RELOAD_SECONDS = 2 * START_SECONDS + 10
ANSWER_SECONDS = 5.0  # the master answers at once; one that does not hears nothing any more


class InForeground(Exception):
    """Whoever runs the daemon watches its pid: it can be renewed, but not succeeded."""


class Cannot(Exception):
    """Nothing can be taken over here; the daemon has to be stopped first."""


class Heritage(NamedTuple):
    """What the daemon that runs has handed over: copies, so far."""

    settings: Settings  # of the daemon that runs
    predecessors: list[Conversation]  # that daemon, then whoever it has succeeded itself
    pidfile: int
    orders: int
    listeners: Sequence[socket]

    def claim(self, settings: Settings, program: Sequence[str]) -> Claim:
        """Return what a daemon with these settings holds. Raises BadOption, Cannot, OSError."""
        identity = find_identity(settings)
        pidfile = PidFile(settings.pidfile)
        pidfile.take_over(self.pidfile)
        orders = Orders(orders_path(settings.pidfile), self.orders)
        claim = Claim(settings, identity, pidfile, orders, (), program)
        claim.ours = False
        claim.predecessors = self.predecessors
        claim.inherited = _address(settings) == _address(self.settings)
        try:
            claim.listeners = self._listeners(settings, inherited=claim.inherited)
            claim.settings = replace(settings, port=bound_port(claim.listeners) or settings.port)
        except BaseException:
            claim.close()
            raise
        return claim

    def _listeners(self, settings: Settings, *, inherited: bool) -> list[socket]:
        if inherited:
            queue(self.listeners, settings)
            return list(self.listeners)
        for listener in self.listeners:
            listener.close()
        try:
            return open_listeners(settings, 0)
        except OSError as error:
            # Another address may be in the way of ours only for as long as we have it ourselves.
            if error.errno == errno.EADDRINUSE and settings.port == self.settings.port:
                raise Cannot from None
            raise


def ask_for(pidfile: Path, settings: Settings) -> Heritage:
    """Ask the daemon of a pidfile for what it holds. `settings`: what it runs with.

    Raises Cannot where it does not answer, InForeground, NotReady where it refuses for now.
    """
    try:
        master = converse(orders_path(pidfile), {"order": "hand over"})
    except OSError:
        raise Cannot from None
    try:
        said, held = master.wait(ANSWER_SECONDS)
    except (EOFError, TimeoutError):
        master.close()
        raise Cannot from None
    if "failed" in said:
        with closing(master):
            raise InForeground if said.get("foreground") else NotReady(str(said["failed"]))
    lock, orders, *others = held
    count = int(said.get("predecessors", 0))
    predecessors = [master, *map(Conversation.found, others[:count])]
    listeners = [socket(fileno=descriptor) for descriptor in others[count:]]
    with suppress(BadOption, SystemExit):  # another version's flags: then the caller knows best
        settings = read(said.get("flags", ()), settings.home, ())[1]
    return Heritage(settings, predecessors, lock, orders, listeners)


def reload(pidfile: Path, flags: Sequence[str] | None = None) -> int:
    """Let a daemon take up new code, and other flags where they are given; return its pid.

    Raises Cannot where it takes no orders, NotReady where the new code does not serve.
    """
    try:
        master = converse(orders_path(pidfile), {"order": "reload", "flags": flags})
    except OSError:
        raise Cannot from None
    with closing(master):
        try:
            said, _ = master.wait(RELOAD_SECONDS)
        except (EOFError, TimeoutError):
            raise NotReady("the daemon does not say how its reload went") from None
    if "ready" not in said:
        raise NotReady(f"the daemon goes on as it was: {said.get('failed')}")
    return int(said["ready"])


def _address(settings: Settings) -> tuple[str, int]:
    return settings.host, settings.port
