"""The options: one table, from which the flags, the environment and the help text are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from httpd.config.networks import Networks, networks
from httpd.config.values import Parse, database, host, name, path, seconds, size, whole, word

VERSION = "0.1.0"

COMMANDS = {
    "start": "start the daemon (the same as no command)",
    "stop": "let it finish what is under way, then stop it",
    "restart": "start it anew with the options that it runs with, and refuse no connection",
    "reload": "take up new code with fresh processes, and drop no request",
    "status": "tell whether it runs, where, how long, what it stores and how busy it is",
    "get_pid": "print its process id",
    "run": "serve in the foreground, log to stdout and stderr",
    "verify": "check every stored file, while the daemon runs or not",
    "import": "take in an older store: import PATH",
}
# What --hash offers for new content; the storage knows how to make and how to read each of them.
HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b")
DURABILITIES = ("full", "none")
ACCESS_LOGS = ("combined", "json", "none")
# loguru's levels, from everything to next to nothing.
LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")


class Option(NamedTuple):
    """A row of the table: how an option is read, explained, and what it is when nobody says."""

    group: str
    parse: Parse
    default: str | None  # as a user would write it, paths relative to main.py; None: not set
    help: str
    variable: str | None = None  # a second name in the environment, besides FILESTORED_…
    many: bool = False  # its flag may be repeated, which is the same as one list with commas


def _cores() -> str:
    """Count the cores that this process may use, which may be fewer than the machine has."""
    return str(len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class Settings:
    """What the daemon runs with. Sizes are in bytes, times in seconds, paths absolute."""

    home: Path  # main.py's folder, where the default paths start from

    # fmt: off
    host: Annotated[str, Option("listening", host, "0.0.0.0",
        "address or name to listen on; `::` is every IPv4 and IPv6 address, `unix:PATH` a socket",
        "FILE_SERVICE_HOST")]
    port: Annotated[int, Option("listening", whole(0, 65535), "9000",
        "port to listen on; 0 takes any free one", "FILE_SERVICE_PORT")]
    listen: Annotated[int, Option("listening", whole(1, 65535), "5",
        "least length of the queue of connections that wait to be accepted")]
    trusted_proxy: Annotated[Networks | None, Option("listening", networks, None,
        "addresses of proxies, like 10.0.0.0/8,::1,unix: (may be repeated), whose Forwarded or "
        "X-Forwarded-For tells the client's address", many=True)]

    store: Annotated[Path, Option("storing", path, "store",
        "folder of the stored files", "FILE_SERVICE_DIR")]
    hash: Annotated[str, Option("storing", word(*HASHES), "md5",
        f"names new content: {', '.join(HASHES)}; what is there stays readable")]
    durability: Annotated[str, Option("storing", word(*DURABILITIES), "full",
        "`full`: an acknowledged upload survives a power cut; `none`: it may not")]

    database_url: Annotated[str | None, Option("storing", database, None,
        "database of the named files: sqlite:///PATH or postgresql://…; a file in the store "
        "unless told otherwise", "FILE_SERVICE_DATABASE_URL")]

    workers: Annotated[int, Option("processes", whole(1, 1024), _cores(),
        "worker processes, one a core unless told otherwise")]
    threads: Annotated[int, Option("processes", whole(1, 1024), "8",
        "threads of a worker for what blocks: hashing and the disk")]
    user: Annotated[str | None, Option("processes", name, None,
        "user to run as, a name or number; only root can choose")]
    group: Annotated[str | None, Option("processes", name, None,
        "group to run as; the user's own unless told otherwise")]
    pidfile: Annotated[Path, Option("processes", path, "filestored.pid",
        "file that holds the process id, and keeps a second daemon from starting")]
    log_dir: Annotated[Path, Option("processes", path, "log", "folder of the log files")]
    log: Annotated[str, Option("processes", word(*LEVELS), "DEBUG",
        f"least level that is logged: {', '.join(LEVELS)}")]
    access_log: Annotated[str, Option("processes", word(*ACCESS_LOGS), "combined",
        "format of the lines about requests: `combined`, or `json`, an object a line; `none`")]
    drain_timeout: Annotated[float, Option("processes", seconds(0), "30",
        "time that requests under way are given when the daemon stops")]
    stall_timeout: Annotated[float, Option("processes", seconds(0), "30",
        "time after which a worker whose loop does not turn is replaced; 0: never")]

    buffer: Annotated[int, Option("limits", size(1, 64 << 20), "4096",
        "bytes received at once", "FILE_SERVICE_CHUNK")]
    max_body: Annotated[int, Option("limits", size(0, 1 << 60), "1T", "largest body accepted")]
    max_head: Annotated[int, Option("limits", size(256, 16 << 20), "16K",
        "largest request head accepted")]
    max_target: Annotated[int, Option("limits", size(64, 16 << 20), "8K",
        "longest request target accepted")]
    max_fields: Annotated[int, Option("limits", whole(1, 10_000), "100",
        "most header fields accepted")]
    head_timeout: Annotated[float, Option("limits", seconds(0.01), "10",
        "time for a request's head to arrive")]
    body_timeout: Annotated[float, Option("limits", seconds(0.01), "30",
        "longest pause within a body")]
    idle_timeout: Annotated[float, Option("limits", seconds(0.01), "75",
        "time that an idle connection is kept open")]
    send_timeout: Annotated[float, Option("limits", seconds(0.01), "30",
        "longest time that a client may take nothing of its response")]
    min_rate: Annotated[int, Option("limits", size(0, 1 << 40), "500",
        "bytes a second that a body must keep up on average")]
    max_connections: Annotated[int, Option("limits", whole(1, 1 << 20), "16384",
        "most connections of all workers together")]
    max_connections_per_client: Annotated[int, Option("limits", whole(0, 1 << 20), "0",
        "most connections of one address, of an IPv6 /64; 0: any")]
    max_requests: Annotated[int, Option("limits", whole(0, 1 << 40), "10000",
        "most requests on one connection; 0: any")]
    # fmt: on

    def flags(self, *, elsewhere: bool = False) -> list[str]:
        """Return the flags that make these settings out of the defaults, for `read`.

        `elsewhere`: by a program in another folder perhaps, whose default paths are other ones.
        """
        return [
            f"{flag(key)}={value}"
            for key, option in OPTIONS.items()
            if (value := getattr(self, key)) != default_of(option, self.home)
            or (elsewhere and isinstance(value, Path))
        ]


OPTIONS: dict[str, Option] = {
    key: hint.__metadata__[0]
    for key, hint in get_type_hints(Settings, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}


class Extra(NamedTuple):
    """A row of the second table: what some commands take, from the command line alone."""

    commands: tuple[str, ...]
    parse: Parse | None  # None: a flag that takes no value
    help: str


@dataclass(frozen=True)
class Task:
    """What `verify`, `import` or `status` is told besides the settings."""

    # fmt: off
    path: Annotated[Path | None, Extra(("import",), path,
        "folder of the older store; it is only read")] = None
    names_from: Annotated[str | None, Extra(("import",), database,
        "database with a table file(id, name), where the files in PATH are named by their ids")
        ] = None
    repair: Annotated[bool, Extra(("verify",), None,
        "quarantine damaged files, free what is left of failed uploads; else nothing is changed")
        ] = False
    anew: Annotated[bool, Extra(("verify",), None,
        "begin at the beginning, not where a check was interrupted")] = False
    rate: Annotated[int | None, Extra(("verify", "import"), size(1, 1 << 40),
        "bytes a second to read at most, like 50M")] = None
    json: Annotated[bool, Extra(("verify", "import", "status"), None,
        "print one JSON document and not lines")] = False
    # fmt: on


EXTRAS: dict[str, Extra] = {
    key: hint.__metadata__[0] for key, hint in get_type_hints(Task, include_extras=True).items()
}


def flag(key: str) -> str:
    """Return the flag of an option."""
    return f"--{key.replace('_', '-')}"


def variables(key: str) -> list[str]:
    """Return the names that an option has in the environment, the first one wins."""
    second = OPTIONS[key].variable
    return [f"FILESTORED_{key.upper()}"] + ([second] if second else [])


def default_of(option: Option, home: Path) -> Any:
    """Return what an option is when nobody says, for a main.py in the folder `home`."""
    return None if option.default is None else option.parse(option.default, home)
