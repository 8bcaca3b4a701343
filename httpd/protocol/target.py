"""The request target in origin form: path and query (RFC 9112 3.2.1, RFC 3986 section 3)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from httpd.exchange import Refusal
from httpd.protocol.grammar import BROKEN_PERCENT, CONTROL, ENCODED_SLASH


class Target(NamedTuple):
    """What is asked for, decoded."""

    path: str  # not normalised: nothing here maps a path to files, so ".." is a name like any other
    query: tuple[tuple[str, str], ...]  # pairs in their order; a bare name has value ""


def parse_target(target: str) -> Target:
    """Split a target of visible ASCII and decode it once, as UTF-8.

    "+" is a space in the query only (as forms send it). Raises Refusal 400: broken percent
    encoding, not UTF-8, control characters once decoded, or an encoded slash in the path.
    """
    path, _, query = target.partition("?")
    if "%" in path and ENCODED_SLASH.search(path):
        # Decoded, it would pass for the end of a segment: "/files/a%2Fb" is not "/files/a/b".
        raise Refusal(400, "an encoded slash cannot be part of a path segment")
    return Target(_decode(path), _parse_query(query) if query else ())


def quote_query(value: str) -> str:
    """Return `value` for use as a name or value in a query: "&", "=" and "+" are encoded."""
    return quote(value, safe="!$'()*,;:@/?")


def _parse_query(query: str) -> tuple[tuple[str, str], ...]:
    spaced = query.replace("+", " ")
    pairs = (pair.partition("=") for pair in spaced.split("&") if pair)
    return tuple((_decode(name), _decode(value)) for name, _, value in pairs)


def _decode(text: str) -> str:
    if "%" not in text:
        return text
    if BROKEN_PERCENT.search(text):
        raise Refusal(400, "broken percent encoding in the target")
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal(400, "the target is not UTF-8") from None
    if CONTROL.search(decoded):
        raise Refusal(400, "control characters in the target")
    return decoded
