"""What a daemon holds from before its first fork to its end."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from httpd.config import Settings
from httpd.process.identity import Identity, find_identity
from httpd.process.listeners import bound_port, open_listeners, remove_socket, unix_path
from httpd.process.orders import Conversation, Orders, orders_path
from httpd.process.pidfile import PidFile

# The workers of a master that was killed may still be on their way out with the port in their
# hands; nobody else's port is worth waiting for.
ORPHANS_SECONDS = 2.0
HOME_MODE = 0o755  # what is in it has modes of its own, and --user must get there


class Claim:
    """Pidfile, socket for orders and listeners of one daemon, and what else its master is told.

    A start takes it, a restart takes it over from the daemon that runs (takeover.py), a reload
    finds it in what the master's earlier self has left (renewal.py), a rehearsal holds nothing.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        pidfile: PidFile,
        orders: Orders | None,
        listeners: Sequence[socket.socket],
        program: Sequence[str],
    ) -> None:
        """Take what is held. `program`: the beginning of the command line that starts it anew."""
        self.settings = settings
        self.identity = identity
        self.pidfile = pidfile
        self.orders = orders
        self.listeners = list(listeners)
        self.program = list(program)
        self.detached = True  # from whoever started it; else that one looks after its pid
        self.lent = False  # the listeners are the service manager's, and stay open when we leave
        self.access_logs: Path | None = None  # folder, where only requests are logged to a file
        self.ours = True  # false while, or once, all of this is another master's
        # Whom we take over from, and before that one whoever is not gone yet.
        self.predecessors: list[Conversation] = []
        self.inherited = False  # the listeners are the predecessor's

    def close(self) -> None:
        """Close this process's copies; the daemon keeps its own."""
        for listener in self.listeners:
            listener.close()
        self.let_go()

    def let_go(self) -> None:
        """Close all but the listeners, as a worker does."""
        if self.orders:
            self.orders.close()
        for predecessor in self.predecessors:
            predecessor.close()
        self.pidfile.close()

    def retire(self, *, keeps_socket: bool) -> None:
        """Leave it all to another master. `keeps_socket`: it listens on the same sockets."""
        self.ours = False
        for listener in self.listeners:
            listener.close()
        if not keeps_socket and not self.lent:
            remove_socket(self.settings)
        self.let_go()
        self.predecessors = []

    def release(self) -> None:
        """Remove what tells of a daemon, the pidfile last, because it is also the lock."""
        if not self.ours:
            self.close()
            return
        for listener in self.listeners:
            listener.close()
        if not self.lent:
            remove_socket(self.settings)
        if self.orders:
            self.orders.remove()
        self.pidfile.release()

    def write_options(self) -> None:
        """Keep what it runs with for a restart, with the port that was found. Raises OSError."""
        self.pidfile.write_options(self.settings.flags(elsewhere=True))
        self.identity.give(self.pidfile.options)

    def give(self) -> None:
        """Give what was made here to the user that the daemon runs as."""
        made = [self.pidfile.path]
        if self.orders:
            made.append(self.orders.path)
        path = unix_path(self.settings)
        if path and not self.lent:
            made.append(Path(path))
        for each in made:
            self.identity.give(each)


def take(settings: Settings, program: Sequence[str], lent: Sequence[socket.socket] = ()) -> Claim:
    """Take everything, or nothing. `lent`: listeners that somebody else has opened.

    Raises AlreadyRunning, BadOption, OSError.
    """
    identity = find_identity(settings)
    pidfile = PidFile(settings.pidfile)
    with ExitStack() as undo:
        if settings.pidfile.parent == settings.home:
            # Where everything is by default. It may be made now, of an installed package.
            settings.home.mkdir(HOME_MODE, parents=True, exist_ok=True)
        pidfile.acquire()
        undo.callback(pidfile.release)
        orders = Orders(orders_path(pidfile.path))
        undo.callback(orders.remove)
        patience = ORPHANS_SECONDS if pidfile.stale else 0
        listeners = list(lent) or open_listeners(settings, patience)
        settings = replace(settings, port=bound_port(listeners) or settings.port)
        claim = Claim(settings, identity, pidfile, orders, listeners, program)
        claim.lent = bool(lent)
        undo.callback(claim.release)
        claim.write_options()
        claim.give()
        undo.pop_all()
    return claim
