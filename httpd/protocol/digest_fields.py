"""The digests a sender declares for what it sends (RFC 9530, RFC 1864)."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple

from httpd.exchange import Fields, Refusal
from httpd.protocol.grammar import DICTIONARY, DICTIONARY_MEMBER

# The algorithms of the registry (RFC 9530 7.2) that hashlib has, by its names.
ALGORITHMS = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}


class ExpectedDigest(NamedTuple):
    """A digest that what is received must have."""

    algorithm: str  # hashlib's name
    value: bytes


def expected_digests(fields: Fields) -> list[ExpectedDigest]:
    """Return every declared digest of a known algorithm; others are passed over (RFC 9530 6.4).

    Raises Refusal 400 if a field is malformed or a digest has not its algorithm's length: it
    would match nothing, and dropping it would accept what the sender asked to have checked.
    """
    digests: list[ExpectedDigest] = []
    if (md5 := fields.get("content-md5")) is not None:
        digests.append(_digest("md5", md5))
    # Of a request without a content coding, content and representation are the same bytes.
    for name in ("content-digest", "repr-digest"):
        for algorithm, encoded in _members(fields.get(name) or "", name):
            digests.append(_digest(algorithm, encoded))
    return digests


def _members(value: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (algorithm, base64) of a structured dictionary's known members (RFC 9651 3.2)."""
    if DICTIONARY.fullmatch(value) is None:
        raise Refusal(400, f"malformed {name} field")
    # Of members with the same key the last one counts (RFC 9651 4.2.2).
    members = {member[1]: member[2] or "" for member in DICTIONARY_MEMBER.finditer(value)}
    for key, item in members.items():
        if key in ALGORITHMS:
            if not item.startswith(":"):
                raise Refusal(400, f"malformed {name} field: a digest is a byte sequence")
            yield ALGORITHMS[key], item.strip(":")


def _digest(algorithm: str, encoded: str) -> ExpectedDigest:
    """Decode one digest; missing padding is made up for (RFC 9651 4.2.7)."""
    try:
        value = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise Refusal(400, f"the expected {algorithm} digest is not base64") from None
    if len(value) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise Refusal(400, f"the expected {algorithm} digest has the wrong length")
    return ExpectedDigest(algorithm, value)
