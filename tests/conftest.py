from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd import metrics
from httpd.metrics import counting
from tests.daemons import Daemon

# A shell without job control has what it starts in the background ignore it, which is inherited.
# Then nothing that a test starts could be interrupted.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")
    parser.addoption("--cuts", type=int, default=10, help="power cuts for each kind of store")
    parser.addoption("--in-full", action="store_true", help="hostility tests in their long form")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def own_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count on a board of the test's own."""
    for name in ("board", "_own"):
        monkeypatch.setattr(counting, name, getattr(counting, name))
    metrics.open_board()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Make a daemon that is not started yet, and see to it that nothing is left of it."""
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.end()
