"""What is set where: the command line, the environment and `.env` files, read by the table."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from httpd.config.options import (
    COMMANDS,
    EXTRAS,
    OPTIONS,
    VERSION,
    Option,
    Settings,
    Task,
    default_of,
    flag,
    variables,
)

COMMAND = "filestored"
"""What main.py is called where it is installed."""


class BadOption(Exception):
    """A value that cannot be used; the message names its flag or variable and where it stands."""


class Source(NamedTuple):
    """A place that sets options."""

    values: Mapping[str, str | None]  # by flag or variable
    folder: Path  # that the relative paths in it start from
    place: str | None  # where to look for a wrong value; None where its name says that already


def installed_home() -> Path:
    """Return where the default paths start from without a main.py: root's, or the user's own.

    The places are those of the Filesystem Hierarchy Standard (5.8, /var/lib) and of the XDG Base
    Directory Specification.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/filestored")
    data = os.environ.get("XDG_DATA_HOME", "")
    base = data if data.startswith("/") else os.path.expanduser("~/.local/share")
    # Who has no home either is a service.
    return Path(base if base.startswith("/") else "/var/lib") / "filestored"


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
    texts = {flag(key): _joined(text) for key, text in given.items() if key in OPTIONS}
    flags = Source(texts, Path.cwd(), None)
    sources = [flags, *(surroundings(home) if sources is None else sources)]
    values = {key: _value(key, option, sources, home) for key, option in OPTIONS.items()}
    return command, Settings(home=home, **values)


def read_task(argv: Sequence[str]) -> Task:
    """Read what else `verify`, `import` or `status` is told. Raises as `read`."""
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


def _joined(given: str | list[str]) -> str:
    return given if isinstance(given, str) else ",".join(given)


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
    return default_of(option, home)


def _dotenv(file: Path) -> Source:
    if not os.path.exists(file):
        return Source({}, file.parent, None)
    # Here, so that options can be checked before any library is installed; and where there is
    # nothing to read, to load it would take 13 ms of a start.
    from dotenv import dotenv_values

    try:
        return Source(dotenv_values(file), file.parent, str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"cannot read {file}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    prog = COMMAND if Path(sys.argv[0]).name == COMMAND else "main.py"
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [command] [option ...]",
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
        action = "append" if option.many else "store"
        group = groups[option.group]
        group.add_argument(flag(key), dest=key, action=action, help=_explain(option))
    extras = parser.add_argument_group("verify, import and status")
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
