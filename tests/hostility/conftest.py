from __future__ import annotations

import os
import resource
from collections.abc import Callable

import pytest

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def in_full(pytestconfig: pytest.Config) -> bool:
    """Whether the long form is asked for."""
    return bool(pytestconfig.getoption("--in-full"))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return what takes a figure down, which is shown at the end of the run."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    figures = config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section(f"figures, on {len(os.sched_getaffinity(0))} cores")
        for line in figures:
            terminalreporter.line(line)


def allow_descriptors(count: int) -> None:
    """Let this process, and the daemons that it starts, have that many; skip where it may not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, hard), max(count, hard)))
    except (OSError, ValueError):
        pytest.skip(f"needs {count} open files, of which {hard} are allowed")
