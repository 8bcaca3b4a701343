"""Every reader of a field's value, one after the other: none may fail but by a refusal."""

from __future__ import annotations

from contextlib import suppress

from httpd.exchange import Fields, Refusal
from httpd.protocol.accept import prefers
from httpd.protocol.conditional import evaluate, range_applies
from httpd.protocol.digest_fields import expected_digests
from httpd.protocol.disposition import filename_of, render_disposition, safe_name
from httpd.protocol.ranges import parse_range
from httpd.protocol.render import parse_http_date, problem, render_fields

ETAG = '"0123"'
CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")
DIGESTS = ("content-digest", "repr-digest", "content-md5")


def read_value(value: str, size: int = 1000) -> None:
    """Read a value as each field that means something here; fail where a result is none.

    `size`: that of a representation, in bytes.
    """
    with suppress(Refusal):
        ranges = parse_range(value, size)
        for offset, length in ranges or []:
            assert 0 <= offset < offset + length <= size, (value, ranges)
    for name in CONDITIONS:
        fields = Fields([(name, value)])
        assert evaluate(fields, "GET", ETAG, 0.0) in (None, 304, 412)
        assert evaluate(fields, "DELETE", ETAG, 0.0) in (None, 412)
        range_applies(fields, ETAG, 0.0)
    for name in DIGESTS:
        with suppress(Refusal):
            expected_digests(Fields([(name, value)]))
    parse_http_date(value)
    offers = ("text/plain", "application/json")
    assert prefers(value, offers) in offers
    check_name(filename_of(value) or value)
    _, content = problem(400, value, None)
    assert content.count(b"\n") == 1, value


def check_name(name: str) -> None:
    """Fail if a name could leave its folder, or its field."""
    safe = safe_name(name)
    assert "/" not in safe, name
    assert safe not in (".", ".."), name
    assert len(safe.encode()) <= 255, name
    block = render_fields([("Content-Disposition", render_disposition("attachment", name))])
    assert block.isascii(), name
