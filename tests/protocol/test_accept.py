from __future__ import annotations

import pytest

from httpd.protocol.accept import prefers

TEXT, JSON, HTML = "text/plain", "application/json", "text/html"
OFFERS = (TEXT, JSON, HTML)

CASES: list[tuple[str | None, str]] = [
    (None, TEXT),
    ("", TEXT),
    (" , ,", TEXT),
    ("*/*", TEXT),
    (JSON, JSON),
    ("Application/JSON", JSON),
    ("application/*", JSON),
    (f"{HTML}, {JSON}", JSON),  # equals: the order of the offers decides
    (f"{HTML},{JSON};q=0.9,*/*;q=0.8", HTML),
    (f"{JSON};q=0.5, text/*;q=0.4", JSON),
    (f"{TEXT};q=0, */*", JSON),  # the more specific range decides, not the better one
    ("text/*;q=0.2, */*;q=0.1", TEXT),
    (f"text/*;q=1, {TEXT};q=0.1", HTML),
    (f"{JSON} ; q=0.3 , {HTML}\t;\tQ=1.000", HTML),
    (f"{JSON};charset=utf-8", JSON),
    (f'{JSON};a="x,y;q=0", {HTML};q=0.5', JSON),
    (f"{JSON};q=0.1;ext=1, {HTML};q=0.2", HTML),
    (f"{JSON};q=0.1, {JSON};q=0.9, {HTML};q=0.5", JSON),
    ("image/png", TEXT),
    (f"{JSON};q=0", TEXT),
    # malformed: as if absent
    (f"{JSON};q=2", TEXT),
    (f"{JSON};q=0.1234", TEXT),
    (f"{JSON};q=-1", TEXT),
    (f"{JSON};q=", TEXT),
    (f"{JSON}, text", TEXT),
    (f"{JSON} {HTML}", TEXT),
    (f'{JSON};a="x', TEXT),
    (f"{JSON}, \xff", TEXT),
]


@pytest.mark.parametrize(("accept", "best"), CASES)
def test_the_best_liked_offer_wins(accept: str | None, best: str) -> None:
    assert prefers(accept, OFFERS) == best


@pytest.mark.parametrize("unit", ["; ", ";a", ", ", ";a=b ", "a/b;", ' ;a="b"', "\t"])
def test_a_hostile_field_is_ignored(unit: str) -> None:
    # What backtracks over any of these 8,000 times does not come back.
    assert prefers(f"{JSON}{unit * 8000}\x00", OFFERS) == TEXT
