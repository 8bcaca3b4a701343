"""The catalog of a worker, whose code is loaded when the worker serves already.

SQLAlchemy takes longer to load than Python and all the rest of a daemon together (0.3 s of 0.5),
and by hash most is answered without it. So this is what a start imports of the catalog, and the
real one comes later: with the first call that needs it, or when nobody waits for anything.
"""

from __future__ import annotations

from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

from httpd.catalog import scheme
from httpd.catalog.errors import CatalogUnavailable

if TYPE_CHECKING:
    from httpd.catalog.catalog import Catalog

NEEDED = ("sqlalchemy", "_sqlite3")  # packages that are looked for, and not loaded


class LateCatalog:
    """Stands for a `Catalog` that its first call opens. Belongs to one process, as that does."""

    def __init__(self, url: str, *, durable: bool, threads: int) -> None:
        """Take what `Catalog.open` takes, checked by `prepare`."""
        self._url = url
        self._durable, self._threads = durable, threads
        self._lock = Lock()
        self._catalog: Catalog | None = None

    def load(self) -> Catalog:
        """Return the real one. Raises CatalogUnavailable, and tries again at the next call."""
        with self._lock:
            if self._catalog is None:
                try:
                    kind = load()
                except (ImportError, OSError) as error:
                    raise CatalogUnavailable(f"its code cannot be loaded: {error}") from error
                self._catalog = kind.open(self._url, durable=self._durable, threads=self._threads)
            return self._catalog

    def itself(self) -> Catalog:
        """Return this, for those who need not know that it comes late."""
        return cast("Catalog", self)

    def __getattr__(self, name: str) -> Any:
        """Be the catalog in everything else."""
        return getattr(self.load(), name)


def load() -> type[Catalog]:
    """Load the catalog's code. Raises ImportError, OSError."""
    from httpd.catalog.catalog import Catalog

    return Catalog


def prepare(url: str, *, whole: bool) -> None:
    """Check a URL, and that what its database needs is there, before a worker is made.

    `whole`: load all of it, for a process that may not read Python's folders later. A URL of
    PostgreSQL cannot be read without SQLAlchemy. Raises ValueError, also where a package is not
    installed.
    """
    if whole or scheme.driver(url) != scheme.SQLITE:
        load().prepare(url)
        return
    scheme.sqlite_file(url)
    for name in NEEDED:
        if find_spec(name) is None:
            raise ValueError(f"the database's driver is not installed: there is no {name}")
