"""A digest: the name of a blob, validated once, at the edge, into a type."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import NamedTuple, Protocol


class Hash(Protocol):
    """A running hash, as hashlib makes them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in the next bytes of the content."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in lower-case hex."""


class Begin(Protocol):
    """Begins a running hash."""

    def __call__(self, content: bytes = b"", /) -> Hash:
        """Return one that has taken in the first bytes of the content, if they are given."""


class Algorithm(NamedTuple):
    """A hash function: how to begin a running hash, and how many hex digits it ends in."""

    begin: Begin
    hex_length: int


# Where two have one length, the first is meant. `usedforsecurity=False` lets MD5 and SHA-1 name
# blobs on hosts in FIPS mode, too; what a collision could do is met by comparing the bytes.
ALGORITHMS = {
    "md5": Algorithm(partial(hashlib.md5, usedforsecurity=False), 32),
    "sha1": Algorithm(partial(hashlib.sha1, usedforsecurity=False), 40),
    "sha256": Algorithm(hashlib.sha256, 64),
    "sha512": Algorithm(hashlib.sha512, 128),
    "blake2b": Algorithm(hashlib.blake2b, 128),
}

# ASCII classes spelled out: `\d`, or ignoring the case, would let other alphabets in.
_FORM = re.compile(r"(?:(?P<algorithm>[a-z0-9]+):)?(?P<hex>[0-9a-fA-F]+)")


class BadDigest(ValueError):
    """A text that is no digest of any known algorithm."""


class Digest(NamedTuple):
    """The hash of a blob's bytes: `algorithm` a key of ALGORITHMS, `hex` in lower case.

    Two digests with the same hex name the same place in a store, whatever their algorithms.
    """

    algorithm: str
    hex: str

    @classmethod
    def of(cls, content: bytes, algorithm: str) -> Digest:
        """Return the digest of a whole content. `algorithm`: a key of ALGORITHMS."""
        return cls(algorithm, ALGORITHMS[algorithm].begin(content).hexdigest())

    @classmethod
    def parse(cls, text: str, preferred: str) -> Digest:
        """Read `hex` or `algorithm:hex`; the hex digits may be in either case.

        Where only the length can tell the algorithm and two have it, `preferred` (a key of
        ALGORITHMS) is meant if it is one of them. Raises BadDigest for anything else.
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise BadDigest("a digest is written in hexadecimal digits")
        digits = form["hex"].lower()
        candidates = [form["algorithm"]] if form["algorithm"] else [preferred, *ALGORITHMS]
        for name in candidates:
            if name in ALGORITHMS and ALGORITHMS[name].hex_length == len(digits):
                return cls(name, digits)
        raise BadDigest(f"no known {form['algorithm'] or 'hash'} has {len(digits)} digits")


def algorithms_of(hexdigits: str) -> list[str]:
    """Return the algorithms (keys of ALGORITHMS) whose digests are as long as this one."""
    return [name for name, each in ALGORITHMS.items() if each.hex_length == len(hexdigits)]
