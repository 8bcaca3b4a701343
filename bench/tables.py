"""Tables of servers by cases, in Markdown that reads well on a terminal too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import NamedTuple

from bench.peers import PEERS
from bench.results import Results, Sample

NOTHING = "–"


class Column(NamedTuple):
    """A case, and what a server's cell shows of its figures."""

    heading: str
    layout: str
    case: str
    show: Callable[[Sample], str]  # KeyError: this server has no such figure


class Table(NamedTuple):
    """Columns under a heading."""

    heading: str
    note: str
    columns: Sequence[Column]

    def render(self, results: Results) -> str:
        """Return it with a row for each server that has taken part."""
        rows = [[kind.title, *self._cells(results, kind.title)] for kind in PEERS]
        rows = [row for row in rows if any(cell != NOTHING for cell in row[1:])]
        table = markdown(["", *(column.heading for column in self.columns)], rows)
        return f"## {self.heading}\n\n{fill(self.note, 100, break_on_hyphens=False)}\n\n{table}"

    def _cells(self, results: Results, peer: str) -> list[str]:
        cells = []
        for column in self.columns:
            try:
                cells.append(column.show(results.medians(column.layout, column.case, peer)))
            except KeyError:
                cells.append(NOTHING)
        return cells


def number(value: float) -> str:
    """Show a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def rate_and_cpu(figures: Sample) -> str:
    return f"{figures['rate']:,.0f} · {figures['cpu']:.0f}"


def quantiles(figures: Sample) -> str:
    return f"{figures['p50']:.2f} · {figures['p99']:.2f} · {figures['p999']:.2f}"


def one(figure: str, digits: int = 0) -> Callable[[Sample], str]:
    """Show one figure."""
    return lambda figures: f"{figures[figure]:,.{digits}f}"


def two(first: str, second: str) -> Callable[[Sample], str]:
    """Show a speed and the seconds of CPU for it."""
    return lambda figures: f"{figures[first]:,.0f} · {figures[second]:.2f}"


TABLES = (
    Table(
        "Small downloads",
        "Requests a second, and µs of the server's CPU for each. 1,000 different files of 4 KiB by "
        "turns, over connections that are kept; then, with 64 connections, 5,000 files of 4 KiB, "
        "1,000 files of 64 KiB, a new connection for each request of 4 KiB, and 4 KiB out of the "
        "middle of 1 MiB. One core for the server, one for the client.",
        (
            *(Column(f"4 KiB, {each} conn.", "one", f"get 4k {each}", rate_and_cpu)
              for each in (1, 16, 64, 256)),
            Column("5,000 files", "one", "get many", rate_and_cpu),
            Column("64 KiB", "one", "get 64k", rate_and_cpu),
            Column("new connection", "one", "close", rate_and_cpu),
            Column("range", "one", "range", rate_and_cpu),
        ),
    ),
    Table(
        "Small downloads, all cores for both",
        "The same with 64 connections. Server and client, a worker and a thread a core, share all "
        "cores.",
        (
            Column("4 KiB", "all", "get 4k 64", rate_and_cpu),
            Column("new connection", "all", "close", rate_and_cpu),
            Column("range", "all", "range", rate_and_cpu),
        ),
    ),
    Table(
        "Small uploads",
        "Uploads a second, and µs of the server's CPU for each. 4 KiB that are sent for the first "
        "time. filestored hashes them, and without `--durability none` answers only when they are "
        "flushed to disk; nobody else here flushes at all, and nginx does not hash.",
        (
            *(Column(f"{each} conn.", "one", f"post {each}", rate_and_cpu)
              for each in (1, 16, 64)),
            Column("64 conn., all cores", "all", "post 64", rate_and_cpu),
        ),
    ),
    Table(
        "Big files",
        "MiB a second, and seconds of the server's CPU, for one file over one connection. The "
        "client takes next to no CPU: it sends by sendfile(2), and drops in the kernel what it "
        "receives. On one core nothing can overlap with hashing. The first download follows the "
        "upload. Behind it the servers take turns with a file that each holds: seven downloads one "
        "after the other, of which the median counts.",
        (
            Column("up, one core", "one", "big up", two("up", "up_cpu")),
            Column("up, all cores", "all", "big up", two("up", "up_cpu")),
            Column("down at first", "one", "big up", two("first", "first_cpu")),
            Column("down, one core", "one", "big down", two("down", "down_cpu")),
            Column("down, all cores", "all", "big down", two("down", "down_cpu")),
        ),
    ),
    Table(
        "Waiting",
        "p50 · p99 · p99.9 in ms, from a request to the last byte of its answer, GET of 4 KiB. The "
        "clients ask as fast as they are answered, so most of it is waiting for one's turn. Beside "
        "uploads: 16 of them under way, each at 10 MiB a second or as fast as they are taken, and "
        "16 connections that ask.",
        (
            Column("64 conn.", "one", "get 4k 64", quantiles),
            Column("256 conn.", "one", "get 4k 256", quantiles),
            Column("16 conn.", "one", "get 4k 16", quantiles),
            Column("16 conn., beside uploads", "one", "uploads", quantiles),
            Column("beside uploads at full speed", "one", "uploads full", quantiles),
        ),
    ),
    Table(
        "Idle connections",
        "Connections that have had an answer and are kept: what each takes of the server's own "
        "memory, and p99 in ms of a GET of 4 KiB over 64 others, without and beside them.",
        (
            Column("connections", "one", "idle", one("count")),
            Column("bytes each", "one", "idle", one("each")),
            Column("p99 without", "one", "idle", one("p99 alone", 2)),
            Column("p99 beside", "one", "idle", one("p99 beside", 2)),
        ),
    ),
    Table(
        "Memory",
        "Of the whole daemon in MiB, a master and a worker a core: when it has just started, and "
        "at most in the first 5 s of 16 uploads at once that are sent as fast as they are taken, "
        "by the kernel's high-water mark.",
        (
            Column("idle", "all", "memory", one("idle", 1)),
            Column("for each worker", "all", "memory", one("a worker", 1)),
            Column("above it under uploads", "all", "memory", one("above", 1)),
            Column("MiB of each upload", "all", "memory", one("size")),
        ),
    ),
    Table(
        "Start and stop",
        "Seconds from the command to the first answer over HTTP, and from the command or signal to "
        "the end of the last process, of an idle server (SeaweedFS is killed).",
        (
            Column("start", "one", "start", one("start", 3)),
            Column("stop", "one", "start", one("stop", 3)),
        ),
    ),
)  # fmt: skip


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns are aligned in plain text: the first to the left."""
    lines = [headings, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def row(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(map(row, [headings, rule, *rows]))
