from __future__ import annotations

import pytest

from httpd.app.media_types import INERT, disposition_of, type_of

# One ending of every type that a browser may show in place: none of them is there in vain.
SHOWN = [
    "aac", "flac", "m4a", "mp3", "ogg", "wav", "weba",
    "avif", "bmp", "gif", "ico", "jpg", "png", "tiff", "webp",
    "mov", "mp4", "mpeg", "ogv", "webm",
    "csv", "json", "txt",
]  # fmt: skip


@pytest.mark.parametrize("ending", SHOWN)
def test_what_is_shown_in_place(ending: str) -> None:
    assert disposition_of(type_of(f"a.{ending}")) == "inline"


def test_everything_that_may_be_shown_has_an_ending() -> None:
    assert {type_of(f"a.{ending}") for ending in SHOWN} == INERT


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a", ""])
def test_what_is_handed_over(name: str) -> None:
    assert disposition_of(type_of(name)) == "attachment"
