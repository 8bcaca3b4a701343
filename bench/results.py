"""What has been measured: the samples of every round, their medians, and ratios round by round."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

Sample = dict[str, float]
"""What one turn of a server has shown, by the names of the figures; empty where it failed."""


Turns = tuple[str, str, str]
"""Of which turns: the layout, the case, the server."""


class Spread(NamedTuple):
    """The median of all rounds, and how far they lie apart."""

    median: float
    least: float
    most: float

    def times(self, factor: float) -> Spread:
        """Return so many times as much."""
        return Spread(*(factor * each for each in self))


class Results:
    """The samples of each (layout, case, server), in the order of the rounds."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}  # about the machine
        self.pulses: list[float] = []  # of the machine before each turn, see machine.pulse
        self.versions: dict[str, str] = {}  # of the servers by title, "" where it says none
        self._samples: dict[str, list[Sample]] = defaultdict(list)

    def add(self, layout: str, case: str, peer: str, sample: Sample) -> None:
        """Note the next round's sample."""
        self._samples[_key(layout, case, peer)].append(sample)

    def medians(self, layout: str, case: str, peer: str) -> Sample:
        """Return the median of each figure over the rounds; nothing where none succeeded."""
        seen: dict[str, list[float]] = defaultdict(list)
        for sample in self._samples.get(_key(layout, case, peer), []):
            for name, value in sample.items():
                seen[name].append(value)
        return {name: median(values) for name, values in seen.items()}

    def own(self, layout: str, case: str, figure: str, peer: str) -> Spread | None:
        """Return a figure of one server; None where no round has it."""
        samples = self._samples.get(_key(layout, case, peer), [])
        return _over([sample[figure] for sample in samples if figure in sample])

    def ratio(self, figure: str, one: Turns, other: Turns) -> Spread | None:
        """Return how the turns of one compare with another's in a figure; None without any.

        Round by round and not the ratio of medians: what else disturbs a machine disturbs the two
        turns of a round alike.
        """
        pairs = zip(
            self._samples.get(_key(*one), []), self._samples.get(_key(*other), []), strict=False
        )
        ratios = [
            mine[figure] / theirs[figure]
            for mine, theirs in pairs
            if figure in mine and theirs.get(figure)
        ]
        return _over(ratios)

    def save(self, path: Path) -> None:
        """Write all of it to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` has written."""
        results = cls()
        saved = json.loads(path.read_text())
        results.facts, results.versions = saved["facts"], saved["versions"]
        results._samples.update(saved["_samples"])
        return results


def _over(values: list[float]) -> Spread | None:
    return Spread(median(values), min(values), max(values)) if values else None


def _key(layout: str, case: str, peer: str) -> str:
    return f"{layout} / {case} / {peer}"
