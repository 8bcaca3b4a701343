"""The systemd units of a service: what setup_systemd.sh writes.

    python3 -m httpd.process.unit service|socket|facts NAME socket|plain PYTHON [option ...]

prints the unit, or what the script has to know, for a daemon with these options. They are read by
the daemon's own parser, so whatever it would refuse is refused here, and no option is forgotten. It
needs nothing but Python's own library: it runs before anything is installed.
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from httpd import config
from httpd.config import BadOption, Settings
from httpd.process.listeners import LEAST_BACKLOG, unix_path

HOME = Path(__file__).resolve().parent.parent.parent
SERVICE = Path(__file__).with_name("unit.service")
SOCKET = Path(__file__).with_name("unit.socket")

# A name of a user, a folder and a unit at once (useradd(8)).
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= covers
SHOWN = ("host", "port", "log", "listen", "buffer")
# The master drains for as long as it is told, and kills what is late a second later.
STOP_SECONDS = 10
PRIVILEGED_PORTS = 1024  # below, a listener takes a capability (capabilities(7))


class Service(NamedTuple):
    """A daemon as a service."""

    name: str
    settings: Settings
    user: str
    group: str
    python: Path
    activated: bool  # systemd opens the listening socket


def read(argv: Sequence[str]) -> Service:
    """Read the command line from NAME on. Raises BadOption, SystemExit."""
    name, kind, python, *options = argv
    if not NAME.fullmatch(name):
        raise BadOption(f"--service_name: {name!r} is not of a-z, 0-9, - and _, 31 at most")
    _, given = config.read(["run", *options], HOME, ())
    state, runtime = Path(f"/var/lib/{name}"), Path(f"/run/{name}")
    _, usual = config.read([], HOME, ())
    settings = replace(
        given,
        store=state if given.store == usual.store else given.store,
        pidfile=runtime / "pid" if given.pidfile == usual.pidfile else given.pidfile,
        user=None,
        group=None,
    )
    if given.log_dir != usual.log_dir:
        raise BadOption(f"--log-dir: the service logs to the journal and to /var/log/{name}")
    if kind == "socket":
        addresses(settings)
    user = given.user or name
    return Service(name, settings, user, given.group or user, Path(python), kind == "socket")


def service_unit(service: Service) -> str:
    """Return the unit of the service."""
    main, settings = HOME / "main.py", service.settings
    privileged = not service.activated and settings.port < PRIVILEGED_PORTS
    privileged = privileged and unix_path(settings) is None
    socket = f"Requires={service.name}.socket\nAfter={service.name}.socket\n"
    words = {
        "name": service.name,
        "readme": quote(str(HOME / "README.md")).replace("%", "%%"),
        "start": _command(service.python, main, "run", *_options(settings)),
        "reload": _command(service.python, main, "reload", f"--pidfile={settings.pidfile}"),
        "stop_seconds": f"{settings.drain_timeout + STOP_SECONDS:g}",
        "user": service.user,
        "group": service.group,
        "capability": "CAP_NET_BIND_SERVICE" if privileged else "",
        # In a user namespace of its own that capability would be worth nothing.
        "private_users": "no" if privileged else "yes",
    }
    blocks = {"socket": socket if service.activated else "", "places": _places(service)}
    return _fill(SERVICE, words, blocks)


def socket_unit(service: Service) -> str:
    """Return the unit of the listening socket."""
    listen = "".join(f"ListenStream={each}\n" for each in addresses(service.settings))
    words = {
        "name": service.name,
        "backlog": str(max(service.settings.listen, LEAST_BACKLOG)),
        "user": service.user,
        "group": service.group,
    }
    return _fill(SOCKET, words, {"listen": listen})


def facts(service: Service) -> str:
    """Return what the script has to know, as assignments of a shell."""
    known = {"user": service.user, "group": service.group, "store": service.settings.store}
    return "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in known.items())


def addresses(settings: Settings) -> list[str]:
    """Return what systemd is to listen on (systemd.socket(5)). Raises BadOption."""
    path = unix_path(settings)
    if path:
        return [path.replace("%", "%%")]
    if not settings.port:
        raise BadOption("--port: systemd listens on no port that it may choose itself")
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BadOption(f"--host: {settings.host!r}: {error}") from None
    hosts = dict.fromkeys(str(address[0]) for _, _, _, _, address in found)
    return [f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
            for host in hosts]  # fmt: skip


def _options(settings: Settings) -> list[str]:
    """Return the flags: those that everybody asks for in any case, so that the unit shows them."""
    shown = [f"{config.flag(key)}={getattr(settings, key)}" for key in SHOWN]
    others = [each for each in settings.flags(elsewhere=True) if each not in shown]
    return shown + [each for each in others if not each.startswith("--log-dir=")]


def _places(service: Service) -> str:
    """Return the directives that make folders visible which the sandbox would hide."""
    # The folder of the interpreter behind the virtual environment's may be in somebody's home.
    python = service.python.resolve().parent.parent if service.python.exists() else None
    read = [HOME, python or Path(sys.base_prefix)]
    lines = [f"BindReadOnlyPaths={_quoted(str(path))}\n" for path in read if _is_home(path)]
    for path in _written(service):
        directive = "BindPaths" if _is_home(path) else "ReadWritePaths"
        lines.append(f"{directive}={_quoted(str(path))}\n")
    return "".join(lines)


def _written(service: Service) -> list[Path]:
    """Return the folders beside its own that the daemon writes to."""
    own = [Path(f"/{kind}/{service.name}") for kind in ("var/lib", "run")]
    settings = service.settings
    folders = [settings.store, settings.pidfile.parent]
    path = unix_path(settings)
    if path and not service.activated:
        folders.append(Path(path).parent)
    scheme, _, file = (settings.database_url or "").partition(":///")
    if scheme.startswith("sqlite") and file:
        folders.append(Path(file).parent)
    return [each for each in dict.fromkeys(folders) if not _is_in(each, own)]


def _is_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path == folder or folder in path.parents for folder in folders)


def _is_home(path: Path) -> bool:
    return _is_in(path, [Path(each) for each in HOMES])


def _command(*words: object) -> str:
    """Return a command line (systemd.service(5)); its colon keeps `$` from being expanded."""
    return ":" + " ".join(_quoted(str(word)) for word in words)


def _quoted(text: str) -> str:
    """Return one word of a unit (systemd.syntax(7)), with no specifier in it (systemd.unit(5))."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + text.replace("%", "%%") + '"'


def _fill(template: Path, words: dict[str, str], blocks: dict[str, str]) -> str:
    """Put words in the place of @KEY@, and blocks of whole lines in that of a line of it."""
    text = template.read_text()
    for key, lines in blocks.items():
        text = text.replace(f"@{key.upper()}@\n", lines)
    for key, word in words.items():
        text = text.replace(f"@{key.upper()}@", word)
    return text


PRINTERS = {"service": service_unit, "socket": socket_unit, "facts": facts}


def main(argv: Sequence[str]) -> int:
    """Print what is asked for; return the exit code."""
    try:
        print(PRINTERS[argv[0]](read(argv[1:])), end="")
    except BadOption as error:
        print(f"filestored: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
