"""How far a check has come: kept in the store, so that an interrupted one goes on from there."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any, NamedTuple

from httpd.storage.note import Note
from httpd.upkeep.report import Tally

# A check that is killed repeats so many seconds of its work, or the one blob that it was at.
EVERY_SECONDS = 1.0


class Position(NamedTuple):
    """The last name that was looked at, and its folder; both are "" at the beginning."""

    folder: str = ""
    name: str = ""


class Bookmark:
    """The position of a check and what it has found until there. Raises OSError."""

    def __init__(self, note: Note, *, repair: bool) -> None:
        """Keep it in `note`; a check that repairs goes on after none that does not."""
        self._note = note
        self._repair = repair
        self._saved_at = time.monotonic()

    def load(self) -> tuple[Position, Tally] | None:
        """Return what was saved last, None where there is nothing to go on from."""
        try:
            saved: dict[str, Any] = json.loads(self._note.read() or b"{}")
            if saved.pop("repair") != self._repair:
                return None
            counts, faults = Counter(saved["counts"]), Counter(saved["faults"])
            return Position(*saved["position"]), Tally(counts, faults, saved["seconds"])
        except (ValueError, TypeError, KeyError):  # it was never there, or is another version's
            return None

    def save(self, position: Position, tally: Tally) -> None:
        """Save both."""
        saved = {
            "position": position,
            "repair": self._repair,
            "counts": tally.counts,
            "faults": tally.faults,
            "seconds": tally.seconds,
        }
        self._note.write(json.dumps(saved).encode())
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it was long ago that anything was saved."""
        return time.monotonic() - self._saved_at >= EVERY_SECONDS

    def remove(self) -> None:
        """Forget it: the check is complete."""
        self._note.remove()
