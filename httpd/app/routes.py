"""Which resource serves which path: one table."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from httpd.app.by_hash import ByHash
from httpd.app.errors import TRANSLATED, refusal_of
from httpd.app.health import Health
from httpd.exchange import Refusal, Request, Response
from httpd.storage.contract import Storage

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Resource = dict[str, Handler]

METHODS = ("GET", "POST", "DELETE")


class Application:
    """Answers requests: a coroutine function from Request to Response."""

    def __init__(self, storage: Storage, algorithm: str, draining: Callable[[], bool]) -> None:
        """Take the storage, its algorithm, and what tells that the worker is on its way out."""
        by_hash = ByHash(storage, algorithm)
        health = Health(storage, draining)
        self._resources: dict[str, Resource] = {
            "/": {"GET": by_hash.get, "POST": by_hash.post, "DELETE": by_hash.delete},
            "/healthz": {"GET": health.alive},
            "/readyz": {"GET": health.ready},
        }
        # `POST /<name>`: any other single segment is the name of the file that is sent.
        self._named: Resource = {"POST": by_hash.post}

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
        if resource is None and method == "POST" and path.count("/") == 1:
            resource = self._named
        if resource is None:
            raise Refusal(404, "there is nothing at this path")
        handler = resource.get(method)
        if handler is None:
            raise _not_allowed(resource)
        return handler


def _not_allowed(methods: Resource | tuple[str, ...]) -> Refusal:
    return Refusal(405, "this method is not served here", [("Allow", ", ".join(methods))])
