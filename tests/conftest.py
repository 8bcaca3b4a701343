from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemons import Daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Make a daemon that is not started yet, and see to it that nothing is left of it."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()
