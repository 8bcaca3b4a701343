"""Which resource serves which path: one table."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from httpd.app.by_hash import ByHash
from httpd.app.by_id import ById
from httpd.app.errors import TRANSLATED, refusal_of
from httpd.app.health import Health
from httpd.app.references import References
from httpd.app.shares import Shares
from httpd.exchange import Refusal, Request, Response
from httpd.storage.contract import Storage

if TYPE_CHECKING:
    from httpd.catalog.catalog import Catalog

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Resource = dict[str, Handler]

METHODS = ("GET", "POST", "DELETE")


class Application:
    """Answers requests: a coroutine function from Request to Response."""

    def __init__(
        self,
        storage: Storage,
        shares: Shares,
        catalog: Catalog,
        algorithm: str,
        draining: Callable[[], bool],
        metrics: Handler,
    ) -> None:
        """Take the storage, its algorithm, the catalog, and what tells that the worker leaves.

        `shares`: what big uploads share. `metrics` answers for the daemon's numbers.
        """
        references = References(storage, catalog)
        by_hash = ByHash(storage, shares, references, algorithm)
        by_id = ById(storage, shares, catalog, references, algorithm)
        health = Health(storage, catalog, draining)
        files: Resource = {"GET": by_id.index, "POST": by_id.post}
        self._resources: dict[str, Resource] = {
            "/": {"GET": by_hash.get, "POST": by_hash.post, "DELETE": by_hash.delete},
            "/files": files,
            "/files/": files,
            "/healthz": {"GET": health.alive},
            "/readyz": {"GET": health.ready},
            "/metrics": {"GET": metrics},
        }
        # What is behind a fixed part: a name that a POST gives its file, or the id of one.
        self._segments: dict[str, Resource] = {
            "/": {"POST": by_hash.post},
            "/files/": {"GET": by_id.get, "POST": by_id.post, "DELETE": by_id.delete},
        }

    async def __call__(self, request: Request) -> Response:
        """Answer one request; raise Refusal or Disconnected."""
        handler = self._handler(request.method, request.path)
        try:
            return await handler(request)
        except TRANSLATED as error:
            raise refusal_of(error) from error

    def _handler(self, method: str, path: str) -> Handler:
        if method not in METHODS:
            raise _not_allowed(METHODS)
        resource = self._resources.get(path)
        if resource is not None:
            if method not in resource:
                raise _not_allowed(resource)
            return resource[method]
        handler = self._segment_handler(method, path)
        if handler is None:
            raise Refusal(404, "there is nothing at this path")
        return handler

    def _segment_handler(self, method: str, path: str) -> Handler | None:
        # An id may have a slash behind it, a name may not: it is a file's.
        whole = path if method == "POST" else path.removesuffix("/")
        prefix, slash, segment = whole.rpartition("/")
        return self._segments.get(prefix + slash, {}).get(method) if segment else None


def _not_allowed(methods: Resource | tuple[str, ...]) -> Refusal:
    return Refusal(405, "this method is not served here", [("Allow", ", ".join(methods))])
