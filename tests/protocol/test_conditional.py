from __future__ import annotations

import pytest

from httpd.exchange import Fields
from httpd.protocol.conditional import evaluate, range_applies
from httpd.protocol.render import http_date

ETAG = '"abc"'
CHANGED = 1_700_000_000.5
THEN, BEFORE, AFTER = http_date(CHANGED), http_date(CHANGED - 10), http_date(CHANGED + 10)

MATCH, NONE_MATCH = "if-match", "if-none-match"
SINCE, UNSINCE = "if-modified-since", "if-unmodified-since"

Lines = list[tuple[str, str]]

CASES: list[tuple[str, Lines, int | None]] = [
    ("GET", [], None),
    # If-Match
    ("GET", [(MATCH, '"abc"')], None),
    ("GET", [(MATCH, "*")], None),
    ("GET", [(MATCH, '"x" , ,"abc"')], None),
    ("GET", [(MATCH, '"x"'), (MATCH, '"abc"')], None),
    ("GET", [(MATCH, '"x,\\", "abc"')], None),  # commas and backslashes belong to the tag
    ("GET", [(MATCH, '"x, abc"')], 412),
    ("DELETE", [(MATCH, '"x"')], 412),
    ("GET", [(MATCH, 'W/"abc"')], 412),
    ("GET", [(MATCH, "abc")], 412),
    ("GET", [(MATCH, '"abc" "x"')], 412),
    # If-Unmodified-Since
    ("GET", [(UNSINCE, THEN)], None),
    ("GET", [(UNSINCE, AFTER)], None),
    ("DELETE", [(UNSINCE, BEFORE)], 412),
    ("GET", [(UNSINCE, "yesterday")], None),
    ("GET", [(MATCH, "*"), (UNSINCE, BEFORE)], None),
    # If-None-Match
    ("GET", [(NONE_MATCH, '"abc"')], 304),
    ("HEAD", [(NONE_MATCH, "*")], 304),
    ("POST", [(NONE_MATCH, "*")], 412),
    ("DELETE", [(NONE_MATCH, '"abc"')], 412),
    ("GET", [(NONE_MATCH, 'W/"abc"')], 304),
    ("GET", [(NONE_MATCH, '"x", W/"abc"')], 304),
    ("GET", [(NONE_MATCH, '"x"')], None),
    ("GET", [(NONE_MATCH, 'w/"abc"')], None),
    ("GET", [(NONE_MATCH, "abc")], None),
    ("GET", [(NONE_MATCH, "")], None),
    # If-Modified-Since
    ("GET", [(SINCE, THEN)], 304),
    ("GET", [(SINCE, AFTER)], 304),
    ("GET", [(SINCE, BEFORE)], None),
    ("DELETE", [(SINCE, THEN)], None),
    ("GET", [(SINCE, "tomorrow")], None),
    # the order of RFC 9110 section 13.2.2
    ("GET", [(NONE_MATCH, '"x"'), (SINCE, AFTER)], None),
    ("GET", [(NONE_MATCH, '"abc"'), (SINCE, BEFORE)], 304),
    ("GET", [(MATCH, '"x"'), (NONE_MATCH, '"abc"')], 412),
    ("GET", [(MATCH, '"abc"'), (NONE_MATCH, '"abc"')], 304),
    ("GET", [(UNSINCE, BEFORE), (SINCE, AFTER)], 412),
    ("GET", [(UNSINCE, AFTER), (SINCE, AFTER)], 304),
]


@pytest.mark.parametrize(("method", "lines", "status"), CASES)
def test_preconditions_end_the_request_or_let_it_go_on(
    method: str, lines: Lines, status: int | None
) -> None:
    assert evaluate(Fields(lines), method, ETAG, CHANGED) == status


@pytest.mark.parametrize(
    ("field", "status"), [(MATCH, 412), (NONE_MATCH, 304)], ids=["strong", "weak"]
)
def test_a_weak_tag_equals_itself_only_weakly(field: str, status: int) -> None:
    assert evaluate(Fields([(field, 'W/"abc"')]), "GET", 'W/"abc"', CHANGED) == status


APPLIES: list[tuple[Lines, str, str]] = [
    ([], ETAG, "range"),
    ([("if-range", '"abc"')], ETAG, "range"),
    ([("if-range", '"x"')], ETAG, "whole"),
    ([("if-range", 'W/"abc"')], ETAG, "whole"),
    ([("if-range", 'W/"abc"')], 'W/"abc"', "whole"),
    ([("if-range", '"abc", "x"')], ETAG, "whole"),
    ([("if-range", "*")], ETAG, "whole"),
    ([("if-range", THEN)], ETAG, "range"),
    ([("if-range", AFTER)], ETAG, "whole"),
    ([("if-range", BEFORE)], ETAG, "whole"),
    ([("if-range", "abc")], ETAG, "whole"),
]


@pytest.mark.parametrize(("lines", "etag", "served"), APPLIES)
def test_a_range_applies_to_the_representation_the_client_knows(
    lines: Lines, etag: str, served: str
) -> None:
    assert range_applies(Fields(lines), etag, CHANGED) == (served == "range")
