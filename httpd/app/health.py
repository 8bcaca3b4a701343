"""Whether the daemon lives and can do its work, for probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from httpd.app.responses import text
from httpd.catalog.errors import CatalogUnavailable
from httpd.exchange import Refusal, Request, Response
from httpd.storage.contract import Storage
from httpd.traps import in_pool

if TYPE_CHECKING:
    from httpd.catalog.catalog import Catalog


class Health:
    """`/healthz` and `/readyz`."""

    def __init__(self, storage: Storage, catalog: Catalog, draining: Callable[[], bool]) -> None:
        """Take the storage, the catalog, and what tells whether this worker is on its way out."""
        self._storage = storage
        self._catalog = catalog
        self._draining = draining

    async def alive(self, _request: Request) -> Response:
        """Answer: that is the whole proof."""
        return text("ok\n", [("Cache-Control", "no-store")])

    async def ready(self, _request: Request) -> Response:
        """Answer 200 where an upload would be taken: the store writable, the worker staying."""
        if self._draining():
            raise Refusal(503, "draining", [("Retry-After", "1")])
        try:
            await in_pool(self._storage.check_writable)
            await in_pool(self._catalog.check)
        except OSError as error:
            raise Refusal(503, f"the store is not writable: {error.strerror}") from error
        except CatalogUnavailable as error:
            raise Refusal(503, "the catalog is not available") from error
        return text("ready\n", [("Cache-Control", "no-store")])
