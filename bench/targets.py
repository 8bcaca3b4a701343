"""What is aimed at, as a table: a figure, its bound, and whether the measurement keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bench.peers import Filestored, Md5sum, Nginx, Peer, SeaweedFS
from bench.results import Results, Spread
from bench.stand import layouts
from bench.tables import number

OURS = Filestored.title


class Target(NamedTuple):
    """A bound on a figure."""

    work: str
    unit: str  # behind the figure and the bound
    bound: float
    at_least: bool
    find: Callable[[Results], Spread | None]

    def verdict(self, results: Results) -> str:
        """Judge the figure as it is shown, not by digits that nobody sees."""
        measured = self.find(results)
        if measured is None:
            return "not measured"
        shown = float(number(measured.median).replace(",", ""))
        met = shown >= self.bound if self.at_least else shown <= self.bound
        return "met" if met else "**missed**"

    def row(self, results: Results) -> list[str]:
        """Return the cells: work, measured, spread, target, verdict."""
        measured = self.find(results)
        value = spread = "–"
        if measured is not None:
            value = number(measured.median) + self.unit
            if measured.least < measured.most:
                spread = f"{number(measured.least)} … {number(measured.most)}"
        bound = f"{'at least' if self.at_least else 'at most'} {number(self.bound)}{self.unit}"
        return [self.work, value, spread, bound, self.verdict(results)]


def beside(
    other: type[Peer], layout: str, case: str, figure: str
) -> Callable[[Results], Spread | None]:
    """Find how filestored compares with another in a figure."""
    turns, others = (layout, case, OURS), (layout, case, other.title)
    return lambda results: results.ratio(figure, turns, others)


def own(layout: str, case: str, figure: str) -> Callable[[Results], Spread | None]:
    """Find a figure of filestored alone."""
    return lambda results: results.own(layout, case, figure, OURS)


def scaling(case: str, server: str = OURS) -> Callable[[Results], Spread | None]:
    """Find how many times the requests of one worker all workers together have the CPU for."""

    def find(results: Results) -> Spread | None:
        cpu = results.ratio("cpu", ("one", case, server), ("all", case, server))
        return cpu and cpu.times(WORKERS)

    return find


WORKERS = len(layouts()["all"].servers)

TARGETS = (
    Target("GET 4 KiB, 64 connections: requests a second beside nginx", " ×", 1, True,
           beside(Nginx, "one", "get 4k 64", "rate")),
    Target("the same: CPU for each beside nginx", " ×", 1, False,
           beside(Nginx, "one", "get 4k 64", "cpu")),
    Target("GET of a big file: speed beside nginx", " ×", 1, True,
           beside(Nginx, "one", "big down", "down")),
    Target("POST of a big file with MD5: time beside `md5sum`, all cores", " ×", 1.1, False,
           beside(Md5sum, "all", "big up", "up seconds")),
    Target("durable POST 4 KiB, 64 connections: uploads a second beside nginx's WebDAV", " ×", 1,
           True, beside(Nginx, "one", "post 64", "rate")),
    Target("the same beside SeaweedFS", " ×", 3, True, beside(SeaweedFS, "one", "post 64", "rate")),
    Target("memory for each of many idle connections", " bytes", 4096, False,
           own("one", "idle", "each")),
    Target("p99 of a GET beside them, as a multiple of p99 without", " ×", 1.1, False,
           own("one", "idle", "p99 ratio")),
    Target("memory of the whole daemon when idle, for each worker", " MiB", 40, False,
           own("all", "memory", "a worker")),
    Target("memory above that under 16 big uploads at once, in all", " MiB", 16, False,
           own("all", "memory", "above")),
    Target("start to first answer", " s", 0.3, False, own("one", "start", "start")),
    Target("stop when idle", " s", 0.2, False, own("one", "start", "stop")),
    Target(f"GET 4 KiB: {WORKERS} workers on {WORKERS} cores beside one on one", " ×",
           0.9 * WORKERS, True, scaling("get 4k 64")),
    Target("the same for ranges", " ×", 0.9 * WORKERS, True, scaling("range")),
    Target("the same for durable uploads", " ×", 0.9 * WORKERS, True, scaling("post 64")),
)  # fmt: skip
QUICK = (
    TARGETS[0], TARGETS[1],
    Target("a new connection for each GET: requests a second beside nginx", " ×", 1, True,
           beside(Nginx, "one", "close", "rate")),
    *(target for target in TARGETS if "`md5sum`" in target.work or "WebDAV" in target.work
      or "first answer" in target.work or "stop" in target.work),
)  # fmt: skip
