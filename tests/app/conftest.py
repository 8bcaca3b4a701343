from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.daemons import Daemon, until
from tests.service import Service


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with two workers, for tests that do not disturb each other."""
    daemon = Daemon(tmp_path_factory.mktemp("shared"))
    daemon.start()
    yield daemon
    daemon.end()


@pytest.fixture
def service(shared: Daemon) -> Iterator[Service]:
    """Requests to the shared daemon; nothing half-done may be left when the test is over."""
    with Service(shared) as service:
        yield service
    until(lambda: not shared.staged(), "something stays staged")


@pytest.fixture
def content(request: pytest.FixtureRequest) -> bytes:
    """Content that no other test stores."""
    return f"the content of {request.node.nodeid}".encode()


@pytest.fixture
def digest(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def stored(service: Service, content: bytes, digest: str) -> str:
    """The digest of the test's content, which is stored."""
    assert service.post("/", data=content).text == digest
    return digest
