"""The requests in `tests/requests`: bytes in files, a table a folder of what comes of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from tests.streams import CLOSED, MORE, OPEN, Reading, bytewise, cut, random_cuts

FOLDER = Path(__file__).parent / "requests"
ENDS = {"valid": OPEN, "invalid": CLOSED}  # where a table says nothing

RANDOM_SPLITS = 3
# Longer ones are sent a few bytes at a time: nothing happens at the single bytes in their middle.
BYTEWISE = 600
FEW_BYTES = 7

# A whole request, and one cut off: it must not matter to what has been decided before.
TRAILING = b"GET /trailing HTTP/1.1\r\nHost: a\r\n\r\n"
TRAILING_ANSWER = "GET /trailing"


class Case(NamedTuple):
    """A client's bytes, and what has to come of them."""

    name: str  # folder and file, without the ending
    data: bytes
    reading: Reading

    def followed(self) -> tuple[bytes, Reading]:
        """Return the bytes with a request behind them, and what has to come of both."""
        answers, end = self.reading
        if end == OPEN:
            answers = (*answers, TRAILING_ANSWER)
        return self.data + TRAILING, Reading(answers, end)

    def splits(self, data: bytes) -> Iterator[list[bytes]]:
        """Yield the ways in which `data` arrives: whole, bytewise, and in a few random pieces."""
        yield [data]
        small = len(data) <= BYTEWISE
        yield bytewise(data) if small else cut(data, range(FEW_BYTES, len(data), FEW_BYTES))
        random = Random(crc32(self.name.encode()))  # the same in every run
        for _ in range(RANDOM_SPLITS):
            yield random_cuts(data, random)


def _read(folder: str) -> Iterator[Case]:
    table = tomllib.loads((FOLDER / folder / "expected.toml").read_text())
    files = {file.stem for file in (FOLDER / folder).glob("*.http")}
    assert files == table.keys(), f"only in one of table and folder: {files ^ table.keys()}"
    for name, row in table.items():
        data = (FOLDER / folder / f"{name}.http").read_bytes()
        reading = Reading(tuple(row["answers"]), row.get("end", ENDS[folder]))
        yield Case(f"{folder}/{name}", data, reading)


CASES = {case.name: case for folder in ENDS for case in _read(folder)}
DECIDED = {name: case for name, case in CASES.items() if case.reading.end != MORE}
