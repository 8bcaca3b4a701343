from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.process import control
from tests.upkeep.stores import Command, Outcome, Store


@pytest.fixture(autouse=True)
def _umask_is_kept() -> Iterator[None]:
    """Undo what the commands, which the tests give in their own process, do to it."""
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store that no daemon serves."""
    store = Store(tmp_path / "store")
    yield store
    store.catalog.close()


@pytest.fixture
def command(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Give a command for the store, as the command line does, and read its report."""
    for key in list(os.environ):
        if key.startswith(("FILESTORED_", "FILE_SERVICE_")):
            monkeypatch.delenv(key)

    def give(*words: str) -> Outcome:
        # Settled before anything is read: what the test has printed itself is none of it.
        capsys.readouterr()
        own = [f"--store={store.root}", "--durability=none", "--json"]
        code = control.main([*words, *own], home=tmp_path)
        out, err = capsys.readouterr()
        return Outcome.parse(code, out, err)

    return give
