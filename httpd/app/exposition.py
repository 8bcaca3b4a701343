"""The numbers as metrics with names, labels and help texts, in the words of prometheus_client.

Everything else of that library is left alone: its counters lock, and know one process only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from httpd.metrics import counting
from httpd.metrics.reading import Sums
from httpd.storage.contract import Space

# Counters that are one cell: their place, name and help text.
COUNTERS = (
    (counting.WORKER_RESTARTS, "worker_restarts", "Workers that died and were replaced"),
    (counting.ACCEPTED, "connections_accepted", "Connections that were accepted"),
    (counting.RECEIVED, "received_bytes", "Bytes received from clients, heads included"),
    (counting.SENT, "sent_bytes", "Bytes sent to clients, heads included"),
    (counting.UPLOAD_BYTES, "upload_bytes", "Bytes of the files taken"),
    (counting.DEDUP_HITS, "dedup_hits", "Files taken whose content was stored already"),
    (counting.DEDUP_BYTES, "dedup_bytes", "Bytes that such files did not take again"),
)


class Collection:
    """All metrics of one moment; what prometheus_client calls a collector."""

    def __init__(self, sums: Sums, space: Space | None, verified: bytes, *, version: str) -> None:
        """Take what was counted, the store's room, and the note of its last `verify`, if any."""
        self._sums = sums
        self._space = space
        self._verified = _parse(verified)
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Yield them."""
        yield _labelled("build_info", "What runs", "version", {self._version: 1})
        yield _gauge("start_time_seconds", "When it was started", self._sums.started_at)
        yield _gauge("workers", "Worker processes that live", self._sums.workers)
        for place, name, text in COUNTERS:
            yield CounterMetricFamily(_full(name), text, value=self._sums[place])
        yield from self._traffic()
        yield from self._store()
        yield from self._verify()

    def _traffic(self) -> Iterator[Metric]:
        states = self._each(counting.STATES, counting.CONNECTIONS)
        yield _labelled("connections", "Connections by what happens on them", "state", states)
        requests = CounterMetricFamily(
            _full("requests"), "Requests by method and status", labels=["method", "status"]
        )
        for method in counting.METHODS:
            for status in counting.STATUSES:
                number = self._sums[counting.requests_place(method, status)]
                if number:
                    requests.add_metric([method, str(status)], number)
        yield requests
        durations = HistogramMetricFamily(
            _full("request_duration_seconds"),
            "Time from the first byte of a request to the last one of its answer",
            labels=["method"],
        )
        for method, histogram in counting.REQUEST_DURATION.items():
            durations.add_metric([method], *self._sums.histogram(histogram))
        yield durations

    def _store(self) -> Iterator[Metric]:
        uploads = CounterMetricFamily(_full("uploads"), "Files taken, by door", labels=["door"])
        for door, number in self._each(counting.DOORS, counting.UPLOADS).items():
            uploads.add_metric([door], number)
        yield uploads
        if self._sums.stored is not None:
            blobs, size = self._sums.stored
            yield _gauge("blobs", "Different contents that are stored", blobs)
            yield _gauge("blob_bytes", "Bytes of the contents that are stored", size)
        if self._space is not None:
            yield _gauge("store_free_bytes", "Bytes that it can still take", self._space.free)
            yield _gauge("store_size_bytes", "Bytes of the store's disk", self._space.size)
        for name, text, histogram in (
            ("flush_duration_seconds", "Time of a flush to the disk", counting.FLUSH_DURATION),
            ("flush_batch_size", "Contents made durable by one flush", counting.FLUSH_BATCH),
        ):
            buckets, total = self._sums.histogram(histogram)
            yield HistogramMetricFamily(_full(name), text, buckets=buckets, sum_value=total)

    def _verify(self) -> Iterator[Metric]:
        """Yield what the last `verify` has found; nothing where there was none."""
        if self._verified is None:
            return
        found = self._verified
        yield _gauge("verify_time_seconds", "When the store was last verified", found["time"])
        yield _gauge("verify_duration_seconds", "How long that took", found["seconds"])
        yield _gauge("verify_blobs", "Contents that it has read", found["blobs"])
        text = "Faults that it has found, repaired or not"
        yield _labelled("verify_faults", text, "kind", found["found"])

    def _each(self, labels: tuple[str, ...], place: int) -> dict[str, int]:
        return {label: self._sums[place + offset] for offset, label in enumerate(labels)}


def expose(collection: Collection, *, openmetrics: bool) -> tuple[str, bytes]:
    """Return the content type and the content."""
    # It asks for its registry, and only collects; part of it is not typed.
    render: Any = openmetrics_exposition.generate_latest if openmetrics else generate_latest
    kind = openmetrics_exposition.CONTENT_TYPE_LATEST if openmetrics else CONTENT_TYPE_LATEST
    return kind, render(collection)


def _parse(note: bytes) -> dict[str, Any] | None:
    """Return what a note of `verify` says; None if there is none, or another version's."""
    try:
        found = json.loads(note or "null")
    except ValueError:
        return None
    known = isinstance(found, dict) and found.keys() >= {"time", "seconds", "blobs", "found"}
    return found if known else None


def _full(name: str) -> str:
    return f"filestored_{name}"


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_full(name), text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(_full(name), text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
