"""The tables, as statements are written against them; `migrations` makes them.

A blob has a row only if it came in under a name. Ids, digests and names are TEXT and times are
whole microseconds, so that every value, and every order of values, is the same on both databases.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, nullable=False, comment="how many of the migrations were applied"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", Text, primary_key=True, comment="hash of the content, lower-case hex"),
    Column("algorithm", Text, nullable=False, comment="name of the hash function"),
    Column("size", BigInteger, nullable=False, comment="length of the content in bytes"),
    Column(
        "stored_by_hash",
        Boolean,
        nullable=False,
        comment="whether the content was stored by its hash as well, so outlives its names",
    ),
    Column("token", Text, comment="what the storage knows the content by that was last noted"),
    Column("noted_us", BigInteger, nullable=False, comment="when it was noted, Unix time in us"),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True, comment="random UUID, canonical form"),
    Column(
        "digest",
        Text,
        ForeignKey("blobs.digest"),
        nullable=False,
        comment="the content; no content is forgotten while a file has it",
    ),
    Column("name", Text, nullable=False, comment="name as the sender gave it"),
    Column("folded_name", Text, nullable=False, comment="name without case, what filters match"),
    Column("type", Text, comment="media type as the sender gave it"),
    Column("created_us", BigInteger, nullable=False, comment="when it was added, Unix time in us"),
)

# Pages are read backwards from a place in this order. A name filter walks the same way until its
# page is full, since no B-tree serves a search for a part of a name: 100,000 names take 60 ms.
Index("files_newest", files.c.created_us, files.c.id)

# Who refers to this content? Asked at every delete.
Index("files_digest", files.c.digest)
