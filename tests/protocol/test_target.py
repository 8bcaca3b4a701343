from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.exchange import Refusal
from httpd.protocol.target import Target, parse_target, quote_query

GOOD: list[tuple[str, str, tuple[tuple[str, str], ...]]] = [
    ("/", "/", ()),
    ("/?", "/", ()),
    ("*", "*", ()),
    ("/?file_hash=abc", "/", (("file_hash", "abc"),)),
    ("/?a=1&stat&b=2", "/", (("a", "1"), ("stat", ""), ("b", "2"))),
    ("/?a=1&a=2", "/", (("a", "1"), ("a", "2"))),
    ("/?&&a=1&&", "/", (("a", "1"),)),
    ("/?a=b=c?d", "/", (("a", "b=c?d"),)),
    ("/?=x&y=", "/", (("", "x"), ("y", ""))),
    ("/?a=b%26c%3Dd%2Fe", "/", (("a", "b&c=d/e"),)),
    ("/a+b?c+d=e+f%2B", "/a+b", (("c d", "e f+"),)),
    ("/a%20b%3F", "/a b?", ()),
    ("/%D1%84.jpg?name=%d1%84", "/ф.jpg", (("name", "ф"),)),
    ("/%252F", "/%2F", ()),
    ("/a/../b/./c//d", "/a/../b/./c//d", ()),
    ("/%2e%2e/", "/../", ()),
    ("/%5C", "/\\", ()),
]

BAD = [
    *("/%", "/%4", "/%zz", "/%+1", "/% 1", "/?a=%", "/?%4=a", "/?a=%u0041"),  # broken percent
    *("/%ff", "/%c3", "/%c0%af", "/%ed%a0%80", "/?a=%ff"),  # not UTF-8
    *("/%00", "/%0d%0a", "/%7f", "/?a=%00", "/?%1b=a"),  # control characters
    *("/a%2fb", "/a%2Fb?c"),  # an encoded slash
]


@pytest.mark.parametrize(("target", "path", "query"), GOOD)
def test_a_target_is_decoded_once(
    target: str, path: str, query: tuple[tuple[str, str], ...]
) -> None:
    assert parse_target(target) == Target(path, query)


@pytest.mark.parametrize("target", BAD)
def test_a_target_that_cannot_be_decoded_is_refused(target: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse_target(target)
    assert (refused.value.status, refused.value.close) == (400, False)


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)


@given(name=NAMES)
def test_a_quoted_value_survives_the_way_through_a_query(name: str) -> None:
    target = f"/?a={quote_query(name)}&b"
    assert target.isascii()
    assert parse_target(target) == Target("/", (("a", name), ("b", "")))


def test_quoting_leaves_readable_what_may_stay() -> None:
    assert quote_query("a/b&c=d+e f#") == "a/b%26c%3Dd%2Be%20f%23"
