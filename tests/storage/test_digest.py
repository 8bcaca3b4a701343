from __future__ import annotations

import hashlib

import pytest

from httpd.storage.digest import ALGORITHMS, BadDigest, Digest

MD5 = "5d41402abc4b2a76b9719d911017c592"
LONG = "ab" * 64  # sha512 or blake2b


@pytest.mark.parametrize(
    ("text", "preferred", "digest"),
    [
        (MD5, "md5", ("md5", MD5)),
        (MD5, "sha512", ("md5", MD5)),
        (MD5.upper(), "md5", ("md5", MD5)),
        ("a" * 40, "md5", ("sha1", "a" * 40)),
        ("0" * 64, "md5", ("sha256", "0" * 64)),
        (LONG, "md5", ("sha512", LONG)),
        (LONG, "sha512", ("sha512", LONG)),
        (LONG, "blake2b", ("blake2b", LONG)),
        ("blake2b:" + LONG, "sha512", ("blake2b", LONG)),
        ("sha512:" + LONG.upper(), "blake2b", ("sha512", LONG)),
        ("md5:" + MD5, "blake2b", ("md5", MD5)),
    ],
)
def test_a_digest_is_read(text: str, preferred: str, digest: tuple[str, str]) -> None:
    assert Digest.parse(text, preferred) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "md5:",
        ":" + MD5,
        MD5[:-1],
        MD5 + "0",
        MD5[:-1] + "g",
        " " + MD5,
        MD5 + " ",
        MD5 + "\n",
        MD5[:-1] + "\0",
        "0x" + MD5[2:],
        "-" + MD5[1:],
        MD5[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
        MD5[:-1] + "\N{FULLWIDTH DIGIT ONE}",
        MD5[:-1] + "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "../" + MD5[3:],
        MD5[:2] + "/" + MD5[3:],
        "sha1:" + MD5,
        "MD5:" + MD5,
        "crc32:" + MD5,
        "md5:md5:" + MD5,
        "a" * 10_000,
    ],
)
def test_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(BadDigest):
        Digest.parse(text, "md5")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_algorithm_is_the_known_one_and_its_digests_can_be_read_back(name: str) -> None:
    running = ALGORITHMS[name].begin()
    running.update(b"hel")
    running.update(b"lo")
    assert running.hexdigest() == hashlib.new(name, b"hello").hexdigest()
    assert Digest.parse(running.hexdigest(), name) == (name, running.hexdigest())
