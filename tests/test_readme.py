"""README.md and README.ru.md: the same content, and all that there is to name is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from httpd import config
from httpd.app.routes import Application
from tests.daemons import PROJECT

ENGLISH, RUSSIAN = PROJECT / "README.md", PROJECT / "README.ru.md"
BOTH = pytest.mark.parametrize("path", [ENGLISH, RUSSIAN], ids=lambda path: path.name)
CODE = re.compile(r"`([^`\n]+)`")
COMMENT = re.compile(r"\s+# .*|  .*")  # in a block of code
ANCHOR = re.compile(r"\]\(#([^)]+)\)")


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+ .+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """Return what a link to a heading is made of."""
    title = heading.lstrip("#").strip().lower()
    return re.sub(r"[^\w -]", "", title).replace(" ", "-")


@BOTH
def test_every_option_command_and_variable_is_named(path: Path) -> None:
    text = path.read_text()
    for key, option in config.OPTIONS.items():
        assert f"`{config.flag(key)}`" in text
        assert option.variable is None or f"`{option.variable}`" in text
    for key in config.EXTRAS.keys() - {"path"}:
        assert config.flag(key) in text
    for command in config.COMMANDS:
        assert re.search(rf"`{command}( PATH)?`", text), command


@BOTH
def test_every_endpoint_is_named_with_its_methods(path: Path) -> None:
    text = path.read_text()
    application = Application(*[None] * 6)  # type: ignore[arg-type]  # for its table alone
    for target, resource in application._resources.items():
        if f"{target}/" in application._resources:
            continue  # the same with its last slash left out
        for method in resource:
            assert f"`{method} {target}" in text
    for prefix, resource in application._segments.items():
        for method in resource:
            assert f"`{method} {prefix}<" in text


@BOTH
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    anchors = {anchor(heading) for heading in headings(text)}
    assert set(ANCHOR.findall(text)) <= anchors
    for target in re.findall(r"\]\(([^#)]+)\)", text):
        assert (PROJECT / target).exists(), target


def outline(text: str) -> list[tuple[str, int]]:
    """Return the level of every section, and how many rows of tables and items of lists it has."""
    sections = re.split(r"^(#+) .+$", text, flags=re.MULTILINE)[1:]
    return [
        (level, len(re.findall(r"^(?:\||- )", body, re.MULTILINE)))
        for level, body in zip(sections[::2], sections[1::2], strict=True)
    ]


def test_both_have_the_same_sections_tables_and_lists() -> None:
    assert outline(ENGLISH.read_text()) == outline(RUSSIAN.read_text())


def test_both_show_the_same_code() -> None:
    def code(path: Path) -> set[str]:
        return set(CODE.findall(path.read_text()))

    assert code(ENGLISH) == code(RUSSIAN)


def test_both_give_the_same_examples() -> None:
    def examples(path: Path) -> list[str]:
        lines = re.findall(r"^    (.+)$", path.read_text(), re.MULTILINE)
        return [COMMENT.split(line)[0].strip() for line in lines]

    assert examples(ENGLISH) == examples(RUSSIAN)
