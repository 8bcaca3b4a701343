"""The options: one table, from which the flags, the environment and the help text are read.

A flag wins over the environment, that over `.env` in the current folder, that over `.env` beside
main.py, and that over the default. Floor 1: this is the only module that knows argv and environ.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

from dotenv import dotenv_values

VERSION = "0.1.0"

COMMANDS = {
    "start": "start the daemon (the same as no command)",
    "stop": "let it finish what is under way, then stop it",
    "restart": "stop it, and start it again with the options that it runs with",
    "reload": "replace its worker processes without dropping a request",
    "status": "tell whether it runs, where, how long and with which workers",
    "get_pid": "print its process id",
    "run": "serve in the foreground and log to stderr",
    "verify": "check every stored file, while the daemon runs or not",
    "import": "take in an older store: import PATH",
}
# What --hash offers for new content; the storage knows how to make and how to read each of them.
HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b")
DURABILITIES = ("full", "none")
# loguru's levels, from everything to next to nothing.
LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
UNIX = "unix:"  # begins a --host that is the path of a socket
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
DAY = 86400  # seconds; a longer timeout than that is a slip of the pen

N = TypeVar("N", int, float)
Parse = Callable[[str, Path], Any]
"""(text, folder that relative paths start from) -> value; raises ValueError: what is wrong."""


class BadOption(Exception):
    """A value that cannot be used; the message names its flag or variable and where it stands."""


def whole(least: int, most: int) -> Parse:
    """Make a parser of whole numbers from `least` to `most`."""
    return lambda text, _folder: _number(int, text, "is not a whole number", least, most)


def size(least: int, most: int) -> Parse:
    """Make a parser of numbers of bytes: 65536, 65_536 or 64K (K, M, G, T: powers of 1024)."""
    complaint = "is not a number of bytes like 4096, 64K or 1T"
    return lambda text, _folder: _number(_bytes, text, complaint, least, most)


def seconds(least: float) -> Parse:
    """Make a parser of seconds, whole or with a fraction, from `least` to a day."""
    return lambda text, _folder: _number(float, text, "is not a number of seconds", least, DAY)


def word(*words: str) -> Parse:
    """Make a parser of one of the words, in upper or lower case."""
    known = {each.lower(): each for each in words}

    def parse(text: str, _folder: Path) -> str:
        if text.lower() not in known:
            raise ValueError(f"is none of {', '.join(words)}")
        return known[text.lower()]

    return parse


def name(text: str, _folder: Path) -> str:
    """Parse the name or the number of a user or group; whether there is one, is told later."""
    return _some(text)


def path(text: str, folder: Path) -> Path:
    """Parse a path, and make it absolute at once, because a daemon leaves its folder."""
    return Path(os.path.abspath(folder / os.path.expanduser(_some(text))))


def host(text: str, folder: Path) -> str:
    """Parse an address or name, an IPv6 address with or without brackets, or `unix:PATH`."""
    if text.startswith(UNIX):
        return f"{UNIX}{path(text.removeprefix(UNIX), folder)}"
    return _some(text.removeprefix("[").removesuffix("]"))


def database(text: str, folder: Path) -> str:
    """Parse the URL of a database; the path of a SQLite file becomes absolute, as any path does."""
    scheme, slashes, file = _some(text).partition(":///")
    if not scheme.startswith("sqlite") or file in ("", ":memory:"):
        return text
    return f"{scheme}{slashes}{path(file, folder)}"


def _some(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _bytes(text: str) -> int:
    unit = UNITS.get(text[-1:].upper())
    return int(text) if unit is None else int(text[:-1]) * unit


def _number(convert: Callable[[str], N], text: str, complaint: str, least: N, most: N) -> N:
    try:
        value = convert(text)
    except ValueError:
        raise ValueError(complaint) from None
    if not least <= value <= most:  # a NaN is between nothing
        raise ValueError(f"is not from {least} to {most}")
    return value


class Option(NamedTuple):
    """A row of the table: how an option is read, explained, and what it is when nobody says."""

    group: str
    parse: Parse
    default: str | None  # as a user would write it, paths relative to main.py; None: not set
    help: str
    variable: str | None = None  # a second name in the environment, besides FILESTORED_…


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
    drain_timeout: Annotated[float, Option("processes", seconds(0), "30",
        "time that requests under way are given when the daemon stops")]

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
    # fmt: on

    def flags(self) -> list[str]:
        """Return the flags that make these settings out of the defaults, for `read`."""
        return [
            f"{flag(key)}={getattr(self, key)}"
            for key, option in OPTIONS.items()
            if getattr(self, key) != _default(option, self.home)
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
    """What `verify` or `import` is told besides the settings."""

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
    json: Annotated[bool, Extra(("verify", "import"), None,
        "print one JSON document and not lines")] = False
    # fmt: on


EXTRAS: dict[str, Extra] = {
    key: hint.__metadata__[0] for key, hint in get_type_hints(Task, include_extras=True).items()
}


class Source(NamedTuple):
    """A place that sets options."""

    values: Mapping[str, str | None]  # by flag or variable
    folder: Path  # that the relative paths in it start from
    place: str | None  # where to look for a wrong value; None where its name says that already


def flag(key: str) -> str:
    """Return the flag of an option."""
    return f"--{key.replace('_', '-')}"


def variables(key: str) -> list[str]:
    """Return the names that an option has in the environment, the first one wins."""
    second = OPTIONS[key].variable
    return [f"FILESTORED_{key.upper()}"] + ([second] if second else [])


def surroundings(home: Path) -> list[Source]:
    """Return what sets options besides the flags, the strongest first. Raises BadOption."""
    here = Path.cwd()
    files = [folder / ".env" for folder in dict.fromkeys((here, home))]
    return [Source(os.environ, here, "the environment"), *map(_dotenv, files)]


def read(
    argv: Sequence[str], home: Path, sources: Sequence[Source] | None = None
) -> tuple[str, Settings]:
    """Read the command and its settings; `sources` instead of the surroundings where given.

    Raises BadOption, and SystemExit on --help, --version and on what is no command or flag.
    """
    command, given = _parse(argv)
    texts = {flag(key): text for key, text in given.items() if key in OPTIONS}
    flags = Source(texts, Path.cwd(), None)
    sources = [flags, *(surroundings(home) if sources is None else sources)]
    values = {key: _value(key, option, sources, home) for key, option in OPTIONS.items()}
    return command, Settings(home=home, **values)


def read_task(argv: Sequence[str]) -> Task:
    """Read what else `verify` or `import` is told. Raises as `read`."""
    _, given = _parse(argv)
    values: dict[str, Any] = {}
    for key in given.keys() & EXTRAS.keys():
        parse = EXTRAS[key].parse
        try:
            values[key] = True if parse is None else parse(given[key], Path.cwd())
        except ValueError as error:
            raise BadOption(f"{_title(key)}: {given[key]!r} {error}") from None
    return Task(**values)


def _parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command, and what is given by key, as text."""
    parser = _parser()
    given = vars(parser.parse_intermixed_args(argv))  # a PATH may follow the options
    command = given.pop("command")
    for key in given.keys() & EXTRAS.keys():
        if command not in EXTRAS[key].commands:
            parser.error(f"{command} takes no {_title(key)}: {given[key]!r}")
    if command == "import" and "path" not in given:
        parser.error("import needs the PATH of an older store")
    return command, given


def _title(key: str) -> str:
    return "PATH" if key == "path" else flag(key)


def _value(key: str, option: Option, sources: Sequence[Source], home: Path) -> Any:
    for source in sources:
        for title in (flag(key), *variables(key)):
            text = source.values.get(title)
            # A variable that is set to nothing is the usual way of not setting it.
            if text is None or (not text and source.place):
                continue
            try:
                return option.parse(text, source.folder)
            except ValueError as error:
                place = f" in {source.place}" if source.place else ""
                raise BadOption(f"{title}{place}: {text!r} {error}") from None
    return _default(option, home)


def _default(option: Option, home: Path) -> Any:
    return None if option.default is None else option.parse(option.default, home)


def _dotenv(file: Path) -> Source:
    try:
        return Source(dotenv_values(file), file.parent, str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"cannot read {file}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py",
        usage="main.py [command] [option ...]",
        description="filestored keeps files: POST one and get its hash, GET it back, DELETE it.",
        epilog="commands:\n" + "".join(f"  {key:10}{text}\n" for key, text in COMMANDS.items())
        + "\nEvery option of the daemon is also a variable, --max-body is FILESTORED_MAX_BODY, in "
        "the\nenvironment or in a file .env in the current folder or beside main.py.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"filestored {VERSION}")
    parser.add_argument(
        "command", nargs="?", choices=COMMANDS, default="start", help=argparse.SUPPRESS
    )
    parser.add_argument("path", nargs="?", metavar="PATH", help=argparse.SUPPRESS)
    titles = dict.fromkeys(option.group for option in OPTIONS.values())
    groups = {title: parser.add_argument_group(title) for title in titles}
    for key, option in OPTIONS.items():
        groups[option.group].add_argument(flag(key), dest=key, help=_explain(option))
    extras = parser.add_argument_group("verify and import")
    for key, (commands, parse, text) in EXTRAS.items():
        if key != "path":
            action = "store" if parse else "store_true"
            note = f"{text} ({', '.join(commands)})"
            extras.add_argument(flag(key), dest=key, action=action, help=note)
    return parser


def _explain(option: Option) -> str:
    notes = [f"default {option.default}"] if option.default else []
    notes += [f"also {option.variable}"] if option.variable else []
    return option.help + (f" ({', '.join(notes)})" if notes else "")
