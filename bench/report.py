"""What a run tells: the table of targets on the terminal, docs/benchmarks.md, the chart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from bench import chart, targets
from bench.peers import Nginx
from bench.results import Results
from bench.tables import TABLES, markdown, rate_and_cpu
from bench.targets import OURS, WORKERS, Target
from tests.daemons import PROJECT

DOCUMENT = PROJECT / "docs" / "benchmarks.md"
CHART = PROJECT / "docs" / "benchmarks.svg"

PAGE = Path(__file__).with_name("page.md")

SCALED = {"GET 4 KiB": "get 4k 64", "range": "range", "upload of 4 KiB": "post 64"}


def write(results: Results) -> None:
    """Write the document and the chart."""
    DOCUMENT.write_text(document(results))
    CHART.write_text(chart.svg(chart.GROUPS, results))
    print(f"written: {DOCUMENT.relative_to(PROJECT)}, {CHART.relative_to(PROJECT)}")


def document(results: Results) -> str:
    """Return the page."""
    versions = [[title, version] for title, version in results.versions.items() if version]
    facts = list(results.facts.items())
    return PAGE.read_text().format(
        targets=targets_table(results, targets.TARGETS),
        scaling=scaling(results),
        tables="\n\n".join(table.render(results) for table in TABLES),
        facts=markdown(["", ""], facts),
        versions=markdown(["", "version"], versions),
    )


def scaling(results: Results) -> str:
    """Return how the rows about all workers come about."""
    rows = []
    for (work, case), server in product(SCALED.items(), (OURS, Nginx.title)):
        one, every = (results.medians(layout, case, server) for layout in ("one", "all"))
        rate = results.ratio("rate", ("all", case, server), ("one", case, server))
        enough = targets.scaling(case, server)(results)
        if rate and enough:
            rows.append(
                [
                    f"{work}, {server}",
                    *(rate_and_cpu(each) for each in (one, every)),
                    f"{every['client']:.0f}",
                    *(f"{each.median:.2f} ×" for each in (rate, enough)),
                ]
            )
    headings = [
        "", "one worker, a core of its own", f"{WORKERS} workers, {WORKERS} cores",
        "client, µs", "requests a second", "what the CPU is enough for",
    ]  # fmt: skip
    return markdown(headings, rows)


def targets_table(results: Results, rows: Sequence[Target]) -> str:
    """Return the targets with what was measured and a verdict."""
    headings = ["", "measured", "spread", "target", ""]
    return markdown(headings, [target.row(results) for target in rows])
