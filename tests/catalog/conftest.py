from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from httpd.catalog.catalog import Catalog
from tests.catalog.databases import PROGRAMS, Server
from tests.catalog.samples import PROCESSES


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    if not PROGRAMS:
        pytest.skip("the Debian package postgresql is missing")
    # Not in pytest's own folder, which only its user may enter.
    with TemporaryDirectory(prefix="pg-") as folder:
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/catalog.db"


@pytest.fixture
def postgresql_url(postgresql: Server) -> str:
    return postgresql.new_schema()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Name an empty database, of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    catalog = Catalog.open(url)
    yield catalog
    catalog.close()


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Have processes that were started afresh, as a forked one would share what must not be."""
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        yield pool
