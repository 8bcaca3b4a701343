"""filestored beside other servers: `make bench`, or in under two minutes `make bench-quick`.

All run on this machine, on the same cores and the same file system, by turns in alternating rounds.
"""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import machine, report, rounds, targets
from bench.cases import IDLE
from bench.clients import crowd, wrk
from bench.peers import PEERS, Peer
from bench.results import Results
from tests.daemons import PROJECT

RESULTS = PROJECT / "build" / "bench" / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="main cases beside nginx, no document")
    parser.add_argument("--folder", help="where all servers store; a temporary one by default")
    parser.add_argument("--rounds", type=int, help="turns of each server")
    parser.add_argument("--seconds", type=int, help="of each turn")
    parser.add_argument("--report", action="store_true", help="write the last run's page anew")
    parser.add_argument("--only", help="cases whose short name has this in it; no document")
    options = parser.parse_args()
    if options.report:
        report.write(Results.load(RESULTS))
        return
    if missing := wrk.missing():
        sys.exit(f"nothing can be measured without {missing}")
    plan = rounds.QUICK if options.quick else rounds.FULL
    given = {"rounds": options.rounds, "seconds": options.seconds}
    plan = plan._replace(**{name: value for name, value in given.items() if value})
    if options.only:
        plan = plan.only(options.only)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, break_off)
    results = Results()
    in_full = not (options.quick or options.only)
    try:
        measure(plan, options.folder, results)
    except KeyboardInterrupt:
        sys.exit("broken off; nothing is left running, or on the disk")
    finally:
        if in_full:
            results.save(RESULTS)  # what there is of it, for --report
    shown = targets.QUICK if options.quick else targets.TARGETS
    if options.only:
        shown = tuple(target for target in shown if target.find(results) is not None)
    print(f"\n{report.targets_table(results, shown)}")
    if in_full:
        report.write(results)


def break_off(*_: object) -> None:
    """Let everything be cleaned up, and that not be broken off by more of the kind."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def measure(plan: rounds.Plan, where: str | None, results: Results) -> None:
    """Measure in a temporary folder below `where`."""
    crowd.most_idle(IDLE)  # the limit is for what is started from here on
    with TemporaryDirectory(dir=where, prefix="filestored-bench-") as name:
        folder = Path(name)
        results.facts = machine.facts(folder) | {
            "measured": f"{date.today()}, {plan.rounds} rounds, turns of {plan.seconds} s, "
            f"big files of {plan.big >> 20} MiB"
        }
        for fact, value in results.facts.items():
            print(f"{fact}: {value}")
        for kind in PEERS:
            if kind.program() is None:
                print(f"without {kind.title}: it needs {kind.package}")
            elif Peer in kind.__bases__:  # and not another way of setting the same one up
                results.versions[kind.title] = kind.version()
        rounds.measure(plan, folder, results)


if __name__ == "__main__":
    main()
