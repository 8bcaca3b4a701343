"""The suite itself is tried: each flush is taken out in turn, and a test has to miss it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.crash.flushes import LEFT_OUT, NEEDED, NOT_NEEDED
from tests.crash.order import broken
from tests.crash.scenes import SCENES
from tests.crash.stand import Stand
from tests.crash.tally import FLUSHES, tally
from tests.daemons import PROJECT

pytestmark = pytest.mark.crash

SYSTEM = {"fsync", "fdatasync", "syncfs"}
# The functions that are called for nothing else, by their names alone.
OURS = {"flush", "flush_path", "flush_entries", "_flush_all", "_flush_folder", "flush_file"}


@pytest.mark.parametrize("flush", NEEDED)
def test_order_is_broken_without(flush: str, tmp_path: Path) -> None:
    scene = SCENES[NEEDED[flush]]
    with closing(Stand(tmp_path, tmp_path / "store", "--workers=1", "--threads=1")) as stand:
        stand.without = flush
        steps = scene.steps(stand, tmp_path / "trace")
        assert f"{LEFT_OUT}{flush}" in stand.nursery.log, "it was not even tried"
    assert broken(steps, scene.needed), "\n".join(map(str, steps))
    tally[FLUSHES] += 1


def test_every_flush_is_in_the_table() -> None:
    ways = [flush.partition(", ")[0].split(" > ") for flush in (*NEEDED, *NOT_NEEDED)]
    listed = {(caller, _name(called)) for way in ways for caller, called in pairwise(way)}
    innermost = {way[-1] for way in ways}
    for caller, called in flushing_calls(PROJECT / "httpd/storage"):
        if called in SYSTEM and caller in innermost:
            continue
        if caller != "syncfs":  # the system call itself
            assert (caller, called) in listed, "a flush that no test has been told of"


def flushing_calls(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the calls that flush, in all modules of a folder: the function, the name called."""
    for file in folder.glob("*.py"):
        for function, name in functions(ast.parse(file.read_text())):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    called = _name(ast.unparse(node.func))
                    if called in SYSTEM | OURS:
                        yield name, called


def functions(tree: ast.AST, within: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Yield functions and methods with their qualified names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, f"{within}{node.name}"
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{node.name}.")


def _name(qualified: str) -> str:
    return qualified.rpartition(".")[2]
