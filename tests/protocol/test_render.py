from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.protocol.render import http_date, parse_http_date, problem, render_head


def test_a_head_is_rendered_line_by_line() -> None:
    fields = [("Content-Length", "5"), ("X", "\xe9"), ("X", "")]
    expected = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: \xe9\r\nX: \r\n\r\n"
    assert render_head(200, fields) == expected


@pytest.mark.parametrize(
    ("status", "reason"),
    [(206, b"Partial Content"), (404, b"Not Found"), (413, b"Content Too Large"),
     (414, b"URI Too Long"), (416, b"Range Not Satisfiable"), (507, b"Insufficient Storage")],
)  # fmt: skip
def test_the_reason_is_the_registered_phrase(status: int, reason: bytes) -> None:
    assert render_head(status, []) == b"HTTP/1.1 %d %b\r\n\r\n" % (status, reason)


INJECTIONS = [
    *("a\r", "a\n", "a\r\n", "\r\n\r\n", "a\0", "ф", "\ud800"),
    *("a\r\nSet-Cookie: b", "a\nSet-Cookie: b", "a\rSet-Cookie: b", "a\r\n\r\n<script>"),
    *(f"a{chr(control)}b" for control in (*range(0x09), *range(0x0A, 0x20), 0x7F)),
]
NO_NAMES = ["", " ", "a b", "a:", "a: b", ":a", "a\t", "é", "a(b)", "a;", 'a"']


@pytest.mark.parametrize("bad", INJECTIONS)
def test_no_value_can_inject_anything(bad: str) -> None:
    for fields in ([("X", bad)], [("A", "b"), ("X", bad)], [("X", bad), ("A", "b")]):
        with pytest.raises(ValueError, match=r"a response field|latin-1"):
            render_head(200, fields)


@pytest.mark.parametrize("bad", [*INJECTIONS, *NO_NAMES])
def test_no_name_can_inject_anything(bad: str) -> None:
    with pytest.raises(ValueError, match=r"a response field|latin-1"):
        render_head(200, [("A", "b"), (bad, "x")])


def test_a_status_is_a_registered_one() -> None:
    with pytest.raises(KeyError):
        render_head(999, [])


PLAIN = "text/plain; charset=utf-8"
JSON = "application/problem+json"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, PLAIN),
        ("*/*", PLAIN),
        ("text/html,*/*;q=0.8", PLAIN),
        ("image/png", PLAIN),
        ("application/json", JSON),
        ("application/problem+json", JSON),
        ("application/*", JSON),
        ("application/json, text/plain;q=0.5", JSON),
        ("application/json;q=0.5, text/plain", PLAIN),
    ],
)
def test_a_problem_is_told_in_the_form_that_is_accepted(
    accept: str | None, content_type: str
) -> None:
    found, content = problem(404, "no such file: ф", accept)
    assert found == content_type
    if content_type == PLAIN:
        assert content.decode() == "no such file: ф\n"
    else:
        assert json.loads(content) == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "no such file: ф",
        }


@pytest.mark.parametrize(
    ("echoed", "shown"),
    [
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("a\r\nb\0", "a\\u000d\\u000ab\\u0000"),
        ("\x85\u2028next", "\\u0085\\u2028next"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        ("<b>é", "<b>é"),
    ],
)
def test_a_problem_escapes_what_could_drive_a_terminal(echoed: str, shown: str) -> None:
    assert problem(404, echoed, None)[1] == f"{shown}\n".encode()
    assert json.loads(problem(404, echoed, "application/json")[1])["detail"] == shown


EXAMPLE = 784111777.0  # the date that RFC 9110 section 5.6.7 shows in each format

DATES: list[tuple[str, float | None]] = [
    ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
    ("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
    ("Sun Nov  6 08:49:37 1994", EXAMPLE),
    ("Sun Nov 06 08:49:37 1994", EXAMPLE),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0),
    ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800.0),
    ("Wed, 29 Feb 2023 00:00:00 GMT", None),
    ("Sun, 00 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 1994 24:00:00 GMT", None),
    ("Sun, 06 Nov 1994 08:60:00 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 +0000", None),
    ("Sun, 6 Nov 1994 08:49:37 GMT", None),
    ("sun, 06 nov 1994 08:49:37 gmt", None),
    ("Sun, 06 Nov 1994 08:49:37 GMT ", None),
    ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    ("Sun Nov    08:49:37 1994", None),
    ("784111777", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "timestamp"), DATES)
def test_dates_are_read_in_all_three_formats(text: str, timestamp: float | None) -> None:
    assert parse_http_date(text) == timestamp


@pytest.mark.parametrize(("ahead", "read_as"), [(0, 0), (50, 50), (51, -49), (-49, -49)])
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(ahead: int, read_as: int) -> None:
    this_year = datetime.now(UTC).year
    parsed = parse_http_date(f"Monday, 15-Jun-{(this_year + ahead) % 100:02} 00:00:00 GMT")
    assert parsed is not None
    assert datetime.fromtimestamp(parsed, UTC).year == this_year + read_as


def test_a_date_is_written_as_imf_fixdate() -> None:
    assert http_date(EXAMPLE + 0.999) == "Sun, 06 Nov 1994 08:49:37 GMT"


@given(timestamp=st.integers(0, 253402300799))
def test_a_written_date_reads_the_same(timestamp: int) -> None:
    assert parse_http_date(http_date(timestamp)) == timestamp
