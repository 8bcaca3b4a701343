"""The listening sockets, opened before anything forks, so that every worker shares them."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from httpd.config import UNIX, BadOption, Settings

# Clients that connect at the same moment all wait in the queue until a worker has its turn. One
# that finds it full sends its SYN again only after a second (listen(2), tcp(7)), which is what
# a literal --listen 5 would do to the sixth of them. So the option is a lower bound.
LEAST_BACKLOG = 1024
UNIX_MASK = 0o117  # leaves mode 0660: connecting takes write permission (unix(7))
RETRY_SECONDS = 0.05
# A name may stand for an address of a family that this machine has switched off.
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def open_listeners(settings: Settings, patience: float) -> list[socket.socket]:
    """Bind and listen on every address of the host; raise OSError if that cannot be done.

    `patience`: seconds to go on trying for while the address is still in use.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _open_all(settings)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise OSError(error.errno, _reason(error), url(settings)) from None
        time.sleep(RETRY_SECONDS)


def lent_listeners(
    settings: Settings, descriptors: Sequence[int]
) -> tuple[Settings, list[socket.socket]]:
    """Return the listeners that a service manager has opened, and the settings with their address.

    Raises BadOption where one of them is none (sd_listen_fds(3), systemd.socket(5)).
    """
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in listeners:
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listener.type != socket.SOCK_STREAM or not listening:
            raise BadOption("the service manager has given a socket that does not listen")
        listener.setblocking(False)
        os.set_inheritable(listener.fileno(), False)
    if not listeners:
        return settings, []
    address = listeners[0].getsockname()
    if isinstance(address, tuple):
        return replace(settings, host=address[0], port=address[1]), listeners
    return replace(settings, host=f"{UNIX}{address}"), listeners


def queue(listeners: Sequence[socket.socket], settings: Settings) -> None:
    """Let the queues of listeners that are taken over have the length that is asked for now."""
    for listener in listeners:
        listener.listen(max(settings.listen, LEAST_BACKLOG))


def bound_port(listeners: Sequence[socket.socket]) -> int | None:
    """Return the port that the listeners have, which they chose where 0 was wanted."""
    address = listeners[0].getsockname()
    return address[1] if isinstance(address, tuple) else None


def unix_path(settings: Settings) -> str | None:
    """Return the path of the socket, None where a port is listened on."""
    return settings.host.removeprefix(UNIX) if settings.host.startswith(UNIX) else None


def url(settings: Settings, *, local: bool = False) -> str:
    """Return the address for a person; `local`: one that a client on this machine can use."""
    if settings.host.startswith(UNIX):
        return settings.host
    host = "localhost" if local and is_open_to_all(settings) else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def is_open_to_all(settings: Settings) -> bool:
    """Tell whether it listens on every address of the machine."""
    try:
        return ip_address(settings.host).is_unspecified
    except ValueError:  # a name, or a path
        return False


def remove_socket(settings: Settings) -> None:
    """Remove the unix socket's file, if there is one and this process may."""
    path = unix_path(settings)
    if path is not None:
        with suppress(OSError):
            os.unlink(path)


def _open_all(settings: Settings) -> list[socket.socket]:
    backlog = max(settings.listen, LEAST_BACKLOG)
    path = unix_path(settings)
    if path is not None:
        return [_open_unix(path, backlog)]
    opened: list[socket.socket] = []
    failures: list[OSError] = []
    port = settings.port
    for family, address in _addresses(settings.host, port):
        try:
            # The second address of a name gets the port that the first one has found free.
            opened.append(_open_tcp(family, (address[0], port, *address[2:]), backlog))
            port = bound_port(opened) or port
        except OSError as error:
            failures.append(error)
    fatal = [error for error in failures if error.errno not in NOT_HERE or not opened]
    if fatal:
        for listener in opened:
            listener.close()
        raise fatal[0]
    return opened


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # a label that the domain name system cannot have (RFC 1035 section 2.3.4)
        raise OSError(errno.EINVAL, "is no host name") from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _open_tcp(family: int, address: Any, backlog: int) -> socket.socket:
    with _half_open(family) as listener:
        # Connections of the last run that linger in TIME_WAIT keep no new one out (socket(7)).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` serves IPv4 as well, whatever the machine's default is (ipv6(7)); any other
            # address must not, as a name may stand for one of each family on the same port.
            only = not ip_address(address[0]).is_unspecified
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind(address)
        listener.listen(backlog)
        return listener


def _open_unix(path: str, backlog: int) -> socket.socket:
    _remove_stale(path)
    with _half_open(socket.AF_UNIX) as listener:
        mask = os.umask(UNIX_MASK)  # bind makes the file: a chmod later would leave a gap
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(backlog)
        return listener


@contextmanager
def _half_open(family: int) -> Iterator[socket.socket]:
    """Make a non-blocking socket, and close it if it cannot be made to listen."""
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        yield listener
    except BaseException:
        listener.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody answers on. Raises OSError if something else is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file that is no socket")
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
            client.settimeout(0)  # where the queue is full, somebody is there
            try:
                client.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:
                pass
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _reason(error: OSError) -> str:
    """Return what went wrong; getaddrinfo's errors have numbers of their own."""
    return error.strerror or str(error)
