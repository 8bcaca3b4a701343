"""Conditional requests (RFC 9110 section 13)."""

from __future__ import annotations

from httpd.exchange import Fields
from httpd.protocol.grammar import ENTITY_TAG, ENTITY_TAGS
from httpd.protocol.render import parse_http_date


def evaluate(fields: Fields, method: str, etag: str, last_modified: float) -> int | None:
    """Return the status that the preconditions end the request with, 304 or 412; None: go on.

    `etag` is the current entity-tag with its quotes, `last_modified` in seconds since the epoch;
    the order is that of RFC 9110 13.2.2. A malformed list of tags matches nothing, a malformed
    date is ignored.
    """
    changed_at = int(last_modified)  # dates in fields have no fraction
    reading = method in ("GET", "HEAD")
    if (tags := fields.get("if-match")) is not None:
        if not _matches_strongly(tags, etag):
            return 412
    elif (date := _date(fields, "if-unmodified-since")) is not None and changed_at > date:
        return 412
    if (tags := fields.get("if-none-match")) is not None:
        if _matches_weakly(tags, etag):
            return 304 if reading else 412
    elif reading and (date := _date(fields, "if-modified-since")) is not None:
        return 304 if changed_at <= date else None
    return None


def range_applies(fields: Fields, etag: str, last_modified: float) -> bool:
    """Tell whether If-Range lets the Range field count (RFC 9110 13.1.5); absent, it does."""
    validator = fields.get("if-range")
    if validator is None:
        return True
    if ENTITY_TAG.fullmatch(validator):
        return _matches_strongly(validator, etag)
    return parse_http_date(validator) == int(last_modified)


def _matches_strongly(tags: str, etag: str) -> bool:
    """Compare as If-Match does: a weak tag equals nothing, itself included (RFC 9110 8.8.3.2)."""
    return tags == "*" or (not etag.startswith("W/") and etag in _entity_tags(tags))


def _matches_weakly(tags: str, etag: str) -> bool:
    """Compare as If-None-Match does: the quoted part decides."""
    opaque = {tag.removeprefix("W/") for tag in _entity_tags(tags)}
    return tags == "*" or etag.removeprefix("W/") in opaque


def _entity_tags(tags: str) -> list[str]:
    return ENTITY_TAG.findall(tags) if ENTITY_TAGS.fullmatch(tags) else []


def _date(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    return None if value is None else parse_http_date(value)
