"""How a value is read from text, whoever gives it: flag, environment or file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

UNIX = "unix:"  # begins a --host that is the path of a socket
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
DAY = 86400  # seconds; a longer timeout than that is a slip of the pen

N = TypeVar("N", int, float)
Parse = Callable[[str, Path], Any]
"""(text, folder that relative paths start from) -> value; raises ValueError: what is wrong."""


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
