"""Makes the manual pages and the completions for bash out of the tables of options.

Run it whenever an option changes: `python packaging/documents.py`; a test tells when it is due.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

import sender  # noqa: E402
from httpd import config  # noqa: E402

DATE = "2026"
# What an option takes, where its name says it; any other takes some text.
FOLDERS = ("--store", "--log-dir")
FILES = ("--pidfile", "--path")

DESCRIPTION = """\
filestored keeps files: POST one over HTTP and get its hash, GET it back, DELETE it. The files stay
plain files in the store, under their hashes; an upload that has been acknowledged survives a power
cut. Installed by pip, its relative default paths start from /var/lib/filestored for root, and from
~/.local/share/filestored (XDG_DATA_HOME) for anybody else."""
SIGNALS = (
    ("TERM", "finish what is under way, then stop"),
    ("INT, QUIT", "stop at once"),
    ("HUP", "fresh workers; the old ones finish their connections first"),
    ("USR1", "reopen the log files"),
)
EXIT_CODES = (
    ("0", "it is done; verify, import: nothing was found"),
    ("1", "it failed, and stderr tells why; verify, import: faults were found"),
    ("2", "an option is wrong; verify, import: it could not be done"),
    ("3", "status: nothing runs"),
    ("4", "status: it runs and does not answer"),
)

COMPLETION = """\
# Completions of {name} for bash, made by packaging/documents.py.
{function}() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} what
  # Bash takes --flag=value for three words.
  [[ $before == = ]] && before=${{COMP_WORDS[COMP_CWORD-2]}}
  [[ $word == = ]] && word=
  case $before in
{cases}
    *)
      if [[ $word == -* ]]; then
        what=(-W "{flags}")
      else
        {other}
      fi ;;
  esac
  [[ ${{what[0]}} == -W ]] || compopt -o filenames
  mapfile -t COMPREPLY < <(compgen "${{what[@]}}" -- "$word")
}}
complete -F {function} {name}
"""


def roff(text: str) -> str:
    """Return a text as roff has it: nothing in it is taken for a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in escaped.splitlines())


def section(title: str, *lines: str) -> Iterator[str]:
    """Yield a section."""
    yield f".SH {title}"
    yield from lines


def listed(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Yield a list of terms in bold and what they mean."""
    for term, text in rows:
        yield from (".TP", f"\\fB{roff(term)}\\fR", roff(text))


def manual(name: str, summary: str, parts: Iterator[str]) -> str:
    """Return a page of section 1."""
    title = f'.TH {name.upper()} 1 "{DATE}" "filestored {config.VERSION}" "User Commands"'
    head = [title, *section("NAME", f"{name} \\- {summary}")]
    return "\n".join([*head, *parts]) + "\n"


def daemon_parts() -> Iterator[str]:
    """Yield what `man filestored` says."""
    yield from section("SYNOPSIS", "\\fBfilestored\\fR [\\fIcommand\\fR] [\\fIoption\\fR ...]")
    yield from section("DESCRIPTION", roff(DESCRIPTION))
    yield from section("COMMANDS", *listed(iter(config.COMMANDS.items())))
    yield from section("OPTIONS", roff("Sizes take K, M, G, T; times are seconds."))
    group = ""
    for key, option in config.OPTIONS.items():
        if option.group != group:
            group = option.group
            yield f".SS {group.capitalize()}"
        # The number of cores is this machine's, and not the reader's.
        known = option.default if key != "workers" else None
        notes = [f"default {known}"] if known else []
        notes += [" or ".join(config.variables(key))]
        yield from listed(iter([(config.flag(key), f"{option.help} ({'; '.join(notes)})")]))
    yield ".SS Of some commands"
    rows = [
        (config.flag(key), f"{extra.help} ({', '.join(extra.commands)})")
        for key, extra in config.EXTRAS.items()
        if key != "path"
    ]
    yield from listed(iter(rows))
    yield from section(
        "SIGNALS", roff("To the process that get_pid tells:"), *listed(iter(SIGNALS))
    )
    yield from section("EXIT STATUS", *listed(iter(EXIT_CODES)))
    yield from section(
        "ENVIRONMENT",
        roff(
            "Every option is a variable as well, named behind it above. A flag wins over the "
            "environment, that over .env in the current folder, that over .env in the folder of "
            "the default paths."
        ),
    )
    yield from section("SEE ALSO", "\\fBfilestored\\-send\\fR(1), \\fBcurl\\fR(1)")


def sender_parts() -> Iterator[str]:
    """Yield what `man filestored-send` says."""
    usage = "\\fBfilestored\\-send\\fR [\\fIoption\\fR ...] [\\fIpath\\fR ...]"
    yield from section("SYNOPSIS", usage)
    yield from section("DESCRIPTION", roff((sender.__doc__ or "").strip()))
    rows = [(", ".join(action.option_strings), explain(action)) for action in sender_actions()]
    yield from section("OPTIONS", *listed(iter(rows)))
    yield from section("SEE ALSO", "\\fBfilestored\\fR(1)")


def sender_actions() -> list[argparse.Action]:
    """Return the options of the sender that are explained."""
    actions = sender.command_line()._actions
    return [each for each in actions if each.option_strings and each.help != argparse.SUPPRESS]


def explain(action: argparse.Action) -> str:
    """Return the help text of an option with its default and its choices."""
    text = (action.help or "") % vars(action)
    return f"{text}; one of {', '.join(map(str, action.choices))}" if action.choices else text


def daemon_options() -> dict[str, tuple[str, ...] | None]:
    """Return the daemon's flags; with its words for one that takes words, None for a bare one."""
    words = {"hash": config.HASHES, "durability": config.DURABILITIES}
    words |= {"access_log": config.ACCESS_LOGS, "log": config.LEVELS}
    known: dict[str, tuple[str, ...] | None] = {
        config.flag(key): words.get(key, ()) for key in config.OPTIONS
    }
    for key, extra in config.EXTRAS.items():
        if key != "path":
            known[config.flag(key)] = () if extra.parse else None
    return known | {"--help": None, "--version": None}


def sender_options() -> dict[str, tuple[str, ...] | None]:
    """Return the same of the sender."""
    known: dict[str, tuple[str, ...] | None] = {}
    for action in sender_actions():
        bare = action.nargs == 0
        words = tuple(map(str, action.choices or ()))
        known.update(dict.fromkeys(action.option_strings, None if bare else words))
    return known


def completion(
    name: str, options: dict[str, tuple[str, ...] | None], commands: tuple[str, ...]
) -> str:
    """Return a completion of options, of what they take, and of commands or else of files."""
    texts = [
        flag for flag, words in options.items() if words == () and flag not in (*FOLDERS, *FILES)
    ]
    kinds = [
        *((flag, f'-W "{" ".join(words)}"') for flag, words in options.items() if words),
        ("|".join(flag for flag in options if flag in FOLDERS), "-d"),
        ("|".join(flag for flag in options if flag in FILES), "-f"),
    ]
    cases = [f"    {flags}) what=({what}) ;;" for flags, what in kinds if flags]
    cases.append(f"    {'|'.join(texts)}) return ;;")
    first = f'what=(-W "{" ".join(commands)}")'
    other = f"((COMP_CWORD == 1)) && {first} || what=(-d)"
    return COMPLETION.format(
        name=name,
        function=f"_{name.replace('-', '_')}",
        cases="\n".join(cases),
        flags=" ".join(options),
        other=other if commands else "what=(-f)",
    )


def documents() -> dict[Path, str]:
    """Return what is made, by where it belongs."""
    commands = tuple(config.COMMANDS)
    return {
        FOLDER / "man" / "filestored.1": manual(
            "filestored", "keep files, and give them back by their hash", daemon_parts()
        ),
        FOLDER / "man" / "filestored-send.1": manual(
            "filestored-send", "send files and folders to filestored", sender_parts()
        ),
        FOLDER / "bash" / "filestored": completion("filestored", daemon_options(), commands),
        FOLDER / "bash" / "filestored-send": completion("filestored-send", sender_options(), ()),
    }


if __name__ == "__main__":
    for path, text in documents().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
