"""The dashboard asks for nothing that the daemon does not tell, and leaves nothing out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.daemons import PROJECT, Daemon, until
from tests.service import Service

DASHBOARD: dict[str, Any] = json.loads((PROJECT / "docs" / "grafana.json").read_text())
METRIC = re.compile(r"\bfilestored_[a-z_]+")
LABEL = re.compile(r"([a-z]+)=~?\"|by \(([a-z, ]+)\)|{{([a-z]+)}}")
# Labels that Prometheus adds: of the scrape, and of a bucket.
ADDED = {"job", "instance", "le"}


def texts() -> Iterator[str]:
    """Yield every expression of the dashboard, and every legend."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
            yield target["legendFormat"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@pytest.fixture
def samples(daemon: Daemon) -> dict[str, set[str]]:
    """The names that a daemon tells after a bit of everything, each with its labels."""
    daemon.start("--durability=full")
    with Service(daemon) as service:
        digest = service.post("/", data=b"hello").text
        service.post("/files/a.txt", data=b"hello")
        (daemon.store / digest[:2] / digest).write_bytes(b"damaged")
        assert daemon.command("verify").returncode == 1
        until(lambda: "filestored_blobs " in service.get("/metrics").text)
        families = list(parse(service.get("/metrics").text))
    return {
        sample.name: set(sample.labels) | ADDED
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_every_metric_and_label_of_the_dashboard_exists(samples: dict[str, set[str]]) -> None:
    for text in texts():
        names = METRIC.findall(text)
        assert set(names) <= samples.keys()
        for match in LABEL.findall(text) if names else ():
            for label in "".join(match).split(", "):
                assert any(label in samples[name] for name in names), text


def test_every_metric_is_in_the_dashboard(samples: dict[str, set[str]]) -> None:
    shown = {name for text in texts() for name in METRIC.findall(text)}
    parts = ("_bucket", "_sum", "_count")
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in samples}
    missing = {
        family
        for family in families
        if family not in shown and not any(family + part in shown for part in parts)
    } - {"filestored_verify_duration_seconds"}  # of no use on a time axis
    assert not missing


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        cells = {(x + i, y + j) for i in range(w) for j in range(h)}
        assert not cells & taken
        assert x + w <= 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
