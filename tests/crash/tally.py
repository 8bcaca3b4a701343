"""How often the suite has crashed what it tries: told at the end of the run."""

from __future__ import annotations

from collections import Counter

CUTS = "power cuts"
KILLS = "kills"
FAULTS = "faults"
ORDERS = "orders of operations checked"
FLUSHES = "flushes taken out, each of them noticed"
ANSWERS = "acknowledged operations looked for after a crash"

tally: Counter[str] = Counter()
