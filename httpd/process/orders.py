"""Orders to a running master that want an answer, over a unix socket beside its pidfile.

A signal carries no options, brings no answer and hands over no descriptor. One packet is one
message, a JSON object (unix(7), SOCK_SEQPACKET), and a conversation that ends is one that its other
side has died in, at the latest.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LONGEST = 64 << 10  # bytes of a message; a command line's flags are far from that
MOST_SOCKETS = 64  # descriptors in a message: a name stands for a few addresses
MASK = 0o177  # leaves mode 0600: orders come from the daemon's own user, and from root
BACKLOG = 8

Message = dict[str, Any]


class Orders:
    """The master's end: where orders come in."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        """Open the socket anew, or take over the one in `descriptor`. Raises OSError.

        The pidfile's lock must be held: what is there by that name is a dead daemon's.
        """
        self.path = path
        if descriptor is not None:
            self._socket = socket.socket(fileno=descriptor)
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with suppress(FileNotFoundError):
                os.unlink(path)
            mask = os.umask(MASK)
            try:
                with _short(path) as name:
                    self._socket.bind(name)
            finally:
                os.umask(mask)
            self._socket.listen(BACKLOG)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor of the listening socket; -1 once it is closed."""
        return self._socket.fileno()

    def accept(self) -> Iterator[Conversation]:
        """Return the conversations that wait to be begun."""
        with suppress(OSError):  # there are none any more, or the one that was has left
            while True:
                peer, _ = self._socket.accept()
                yield Conversation(peer)

    def close(self) -> None:
        """Close this process's copy."""
        self._socket.close()

    def remove(self) -> None:
        """Remove the socket's file, then close it."""
        with suppress(OSError):  # whoever gave up being root may not remove from root's folder
            os.unlink(self.path)
        self.close()


class Conversation:
    """Either end of a conversation."""

    def __init__(self, peer: socket.socket) -> None:
        """Take over a connected socket."""
        peer.setblocking(False)
        self._peer = peer

    @classmethod
    def found(cls, descriptor: int) -> Conversation:
        """Go on with the one that an earlier self has left in `descriptor`."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self._peer.fileno()

    def hear(self) -> Message | None:
        """Return the next message if one has come. Raises EOFError where none will come."""
        try:
            data = self._peer.recv(LONGEST)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        return _parse(data)

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; a peer that has left has no ears, which is not our trouble."""
        with suppress(OSError):
            socket.send_fds(self._peer, [json.dumps(message).encode()], list(descriptors))

    def wait(self, timeout: float) -> tuple[Message, list[int]]:
        """Wait for a message; return it with the descriptors that came in it.

        Raises EOFError where none will come, TimeoutError where none comes in time.
        """
        self._peer.settimeout(timeout)
        try:
            data, descriptors, _, _ = socket.recv_fds(self._peer, LONGEST, MOST_SOCKETS)
        except ConnectionError:
            raise EOFError from None
        finally:
            self._peer.setblocking(False)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # as every other one in this program
        return _parse(data), descriptors

    def close(self) -> None:
        """End it, as far as this process goes."""
        self._peer.close()


def orders_path(pidfile: Path) -> Path:
    """Return the path of the socket for the daemon of that pidfile."""
    return pidfile.with_name(f"{pidfile.name}.sock")


def converse(path: Path, order: Message) -> Conversation:
    """Give an order; the answer is to be waited for. Raises OSError where nobody takes any."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(path) as name:
            peer.connect(name)
        peer.sendall(json.dumps(order).encode())
    except BaseException:
        peer.close()
        raise
    return Conversation(peer)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Name a path in the few bytes that an address of a socket has room for (unix(7): 108)."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _parse(data: bytes) -> Message:
    if not data:
        raise EOFError
    try:
        message = json.loads(data)
    except ValueError:
        message = None
    return message if isinstance(message, dict) else {}
