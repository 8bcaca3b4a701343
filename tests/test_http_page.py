"""`docs/http.md` says nothing that no test backs, and leaves out no request of the corpus."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.corpus import CASES

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "http.md"
BACKED = "backed by"


class Line(NamedTuple):
    """A row of a table that says what backs it."""

    text: str
    backing: list[str]


def lines() -> Iterator[Line]:
    """Yield the rows of the tables whose last column is what backs them."""
    backed = False
    for text in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in text.strip().strip("|").split(" | ")]
        if not text.startswith("|"):
            backed = False
        elif cells[-1] == BACKED:
            backed = True
        elif backed and not set(text) <= set("|- "):
            yield Line(text, re.findall(r"`([^`]+)`", cells[-1]))


LINES = list(lines())
NAMED = [name for line in LINES for name in line.backing]


def test_every_line_is_backed() -> None:
    assert len(LINES) > 80
    assert [line.text for line in LINES if not line.backing] == []


@cache
def functions_of(file: str) -> set[str]:
    nodes = ast.walk(ast.parse((TESTS / file).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_what_backs_a_line_exists(name: str) -> None:
    if name.startswith(("valid/", "invalid/")):
        assert any(fnmatchcase(case, name) for case in CASES)
    else:
        file, _, test = name.partition("::")
        assert test.startswith("test_")
        assert test in functions_of(file)


def test_every_request_of_the_corpus_has_its_line() -> None:
    assert [case for case in CASES if not any(fnmatchcase(case, name) for name in NAMED)] == []
