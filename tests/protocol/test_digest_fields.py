from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from httpd.exchange import Fields, Refusal
from httpd.protocol.digest_fields import ExpectedDigest, expected_digests

MD5, CONTENT, REPR = "content-md5", "content-digest", "repr-digest"
RAW = {name: hashlib.new(name, b"hello").digest() for name in ("md5", "sha1", "sha256", "sha512")}
B64 = {name: b64encode(raw).decode() for name, raw in RAW.items()}

Lines = list[tuple[str, str]]

DECLARED: list[tuple[Lines, list[str]]] = [
    # the fields, then the algorithms
    ([], []),
    ([(MD5, B64["md5"])], ["md5"]),
    ([(CONTENT, f"md5=:{B64['md5']}:")], ["md5"]),
    ([(CONTENT, f"sha=:{B64['sha1']}:")], ["sha1"]),
    ([(CONTENT, f"sha-256=:{B64['sha256']}:")], ["sha256"]),
    ([(CONTENT, f"sha-256=:{B64['sha256'].rstrip('=')}:")], ["sha256"]),
    ([(REPR, f"sha-512=:{B64['sha512']}:")], ["sha512"]),
    (
        [(CONTENT, f"md5=:{B64['md5']}: ,\tsha-256=:{B64['sha256']}:;a=1; b")],
        ["md5", "sha256"],
    ),
    (
        [(CONTENT, f"md5=:{B64['md5']}:"), (CONTENT, f"sha-256=:{B64['sha256']}:")],
        ["md5", "sha256"],
    ),
    (
        [(MD5, B64["md5"]), (REPR, f"md5=:{B64['md5']}:")],
        ["md5", "md5"],
    ),
    ([(CONTENT, f"md5=:AAAA:, md5=:{B64['md5']}:")], ["md5"]),  # the last one counts
    # unknown algorithms, whatever their values
    ([(CONTENT, "")], []),
    ([(CONTENT, 'unixsum=30637, crc32c=:AAAA:, a="b, c", d, e=?1, f=-1.5, g=h/i')], []),
    ([(CONTENT, f"new=:AAAA:, md5=:{B64['md5']}:")], ["md5"]),
]


@pytest.mark.parametrize(("lines", "expected"), DECLARED)
def test_declared_digests_are_read(lines: Lines, expected: list[str]) -> None:
    assert expected_digests(Fields(lines)) == [
        ExpectedDigest(algorithm, RAW[algorithm]) for algorithm in expected
    ]


BAD: list[Lines] = [
    [(MD5, "")],
    [(MD5, RAW["md5"].hex())],
    [(MD5, "not base64!")],
    [(MD5, f"{B64['md5']}, {B64['md5']}")],
    [(MD5, "5")],
    [(MD5, B64["sha1"])],
    [(CONTENT, "md5=:AAAA:")],
    [(CONTENT, f"sha-256=:{B64['md5']}:")],
    [(CONTENT, f"md5={B64['md5']}")],
    [(CONTENT, f"md5=:{B64['md5']}")],
    [(CONTENT, "md5=5")],
    [(CONTENT, "md5")],
    [(CONTENT, "md5=:=A=A:")],
    [(CONTENT, f"MD5=:{B64['md5']}:")],
    [(CONTENT, f"md5=:{B64['md5']}: sha-256=:{B64['sha256']}:")],
    [(CONTENT, f"md5 = :{B64['md5']}:")],
    [(CONTENT, "a=(b c)")],
    [(REPR, "\xff")],
]


@pytest.mark.parametrize("lines", BAD)
def test_malformed_digests_are_refused_and_the_connection_stays(lines: Lines) -> None:
    with pytest.raises(Refusal) as refused:
        expected_digests(Fields(lines))
    assert (refused.value.status, refused.value.close) == (400, False)
