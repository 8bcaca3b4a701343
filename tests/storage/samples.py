"""Contents that the storage tests upload, and the one way to upload them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from httpd.storage.contract import Storage, Stored
from httpd.storage.digest import Digest

OpenStorage = Callable[..., Storage]
"""Opens the store of a test once more, for an algorithm (MD5 if none is given)."""

# Two blocks with one MD5, by Xiaoyun Wang and Hongbo Yu (EUROCRYPT 2005).
COLLIDING = (
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70"
    ),
    bytes.fromhex(
        "d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f89"
        "55ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b"
        "d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0"
        "e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70"
    ),
)
COLLIDING_DIGEST = Digest("md5", "79054025255fb1a26e4bc422aef54eb4")

HELLO = Digest("md5", "5d41402abc4b2a76b9719d911017c592")  # of b"hello"


def neighbour(digest: Digest) -> bytes:
    """Return content whose digest begins with the same two digits, thus shares the folder."""
    contents = (str(number).encode() for number in range(100_000))
    return next(c for c in contents if hashlib.md5(c).hexdigest()[:2] == digest.hex[:2])


def upload(storage: Storage, content: bytes) -> Stored:
    staged = storage.stage()
    staged.append(content)
    return staged.publish()


def publish_together(storage: Storage, *contents: bytes) -> list[Stored | Exception | None]:
    """Upload contents in one group, and give up what the group leaves."""
    return list(storage.publish_together([(content, ()) for content in contents]))


def download(storage: Storage, digest: Digest) -> bytes:
    blob = storage.open(digest)
    try:
        return blob.read(blob.size, 0)
    finally:
        blob.close()
