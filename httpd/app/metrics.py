"""The daemon's numbers for Prometheus, `/metrics`: those of all workers, whoever is asked."""

from __future__ import annotations

from collections.abc import Callable

from httpd.app.responses import answer
from httpd.exchange import Request, Response
from httpd.metrics.reading import Sums
from httpd.protocol.accept import prefers
from httpd.storage.contract import Storage
from httpd.traps import in_pool

OPENMETRICS = "application/openmetrics-text"


class Metrics:
    """`/metrics`, in the text format or, for whoever prefers it, in OpenMetrics."""

    def __init__(self, storage: Storage, verified: Callable[[], bytes], version: str) -> None:
        """Take the storage, what reads the note of its last `verify`, and what runs here."""
        self._storage = storage
        self._verified = verified
        self._version = version

    async def get(self, request: Request) -> Response:
        """Answer with all that is counted. The loop serves on meanwhile: it is done in the pool."""
        accept = request.fields.get("accept")
        openmetrics = prefers(accept, ("text/plain", OPENMETRICS)) == OPENMETRICS
        kind, content = await in_pool(self._render, openmetrics)
        return answer(content, kind, [("Cache-Control", "no-store")])

    def _render(self, openmetrics: bool) -> tuple[str, bytes]:  # noqa: FBT001 - called by in_pool
        # Imported at the first scrape: prometheus_client takes 0.1 s, and no start waits for it.
        from httpd.app.exposition import Collection, expose

        collection = Collection(
            Sums(), self._storage.space(), self._verified(), version=self._version
        )
        return expose(collection, openmetrics=openmetrics)
