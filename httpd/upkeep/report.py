"""What was found, as it is told: a line for every fault or one JSON document, and a bar."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

Kind = Literal[
    "damaged",  # a blob whose bytes are not those of its name; repaired: moved to quarantine
    "quarantined",  # a damaged blob that was moved there, and not stored again since
    "missing",  # a name without content; of an import: a name without a file
    "orphan",  # content, or a note of it, that came with a name and has none; repaired: freed
    "abandoned",  # an upload that its process did not survive; repaired: removed
    "empty",  # a prefix folder with nothing in it; repaired: removed
    "strange",  # what is no blob, where only blobs belong; left alone
    "unreadable",  # what the system fails to read
    # Of an import alone; none of these is imported.
    "mismatch",  # a file whose bytes are not those of its name
    "collision",  # a file for whose digest there is other content
    "taken",  # a file for whose id there is other content
    "left",  # a file by id that has no name, or could not be imported
]


class Fault(NamedTuple):
    """Something that is not as it should be."""

    kind: Kind
    subject: str  # a digest, a path within the store, or an id
    detail: str  # for a person
    repaired: bool


@dataclass
class Tally:
    """How much was looked at, and what was found."""

    counts: Counter[str]
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Report:
    """Tells of faults as they are found, and of everything at the end.

    Without `as_json` a line for every fault and one for the whole; with it one document, written
    as it grows, so that no number of faults fills the memory. The bar is for a terminal only.
    """

    def __init__(self, out: TextIO, err: TextIO, *counts: str, as_json: bool) -> None:
        """Write faults to `out` and the progress to `err`; `counts` are the words counted."""
        self.tally = Tally(Counter(dict.fromkeys(counts, 0)))
        self._out = out
        self._as_json = as_json
        self._since = time.monotonic()
        self._told = 0
        # In thousandths and not in bytes: their sum is not known before everything was listed.
        self._bar = tqdm(
            total=1000,
            file=err,
            disable=not err.isatty(),
            leave=False,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {postfix}",
        )

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell the whole at the end; where it comes too early, a document says so."""
        if self._as_json:
            self._write('{"faults": [')
        complete = False
        try:
            with self._bar:
                yield
            complete = True
        finally:
            self.clock()
            if self._as_json:
                self._write(self._document_end(complete=complete))
            elif complete:
                self._write(f"{self._summary()}\n")

    def go_on(self, tally: Tally) -> None:
        """Add to what was looked at and found before an interruption."""
        self.tally = tally

    def clock(self) -> None:
        """Bring the seconds up to now."""
        now = time.monotonic()
        self.tally.seconds += now - self._since
        self._since = now

    def found(self, kind: Kind, subject: str, detail: str, *, repaired: bool = False) -> None:
        """Tell of a fault."""
        self.tally.faults[kind] += 1
        fault = Fault(kind, subject, detail, repaired)
        if self._as_json:
            comma = ",\n" if self._told else "\n"
            self._write(f"{comma}  {json.dumps(fault._asdict())}")
        else:
            mark = " (repaired)" if repaired else ""
            self._write(f"{kind} {_printable(subject)}: {_printable(detail)}{mark}\n")
        self._told += 1

    def as_note(self) -> bytes:
        """Return what was looked at and found, for who asks later: a JSON object."""
        self.clock()
        note = {"time": round(time.time(), 3), "seconds": round(self.tally.seconds, 3)}
        return json.dumps({**note, **self.tally.counts, "found": self.tally.faults}).encode()

    def progress(self, part: float) -> None:
        """Show how much of the work is done, from 0 to 1."""
        self._bar.set_postfix_str(_words(self.tally.counts), refresh=False)
        self._bar.update(max(0, int(1000 * part) - self._bar.n))

    def _summary(self) -> str:
        tally = self.tally
        faults = _words(tally.faults) if tally.faults else "no faults"
        return f"{_words(tally.counts)}, {tally.seconds:.1f} seconds: {faults}"

    def _document_end(self, *, complete: bool) -> str:
        tally = self.tally
        counts = {word.replace(" ", "_"): count for word, count in tally.counts.items()}
        end: dict[str, Any] = {
            **counts, "seconds": round(tally.seconds, 3), "found": dict(tally.faults),
            "complete": complete,
        }  # fmt: skip
        return f"\n], {json.dumps(end)[1:]}\n"

    def _write(self, text: str) -> None:
        with tqdm.external_write_mode(file=self._out):  # the bar makes room
            self._out.write(text)
            self._out.flush()


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def _printable(text: str) -> str:
    """Return a text as it is, or, where it could steer a terminal, with escapes."""
    return text if text.isprintable() else repr(text)
