"""A place in the list of files: where the next page begins."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple
from uuid import UUID

# Microseconds and the UUID: 24 bytes, so that base64 needs no padding.
_FORM = struct.Struct(">q16s")

MALFORMED = "this is no cursor of a list of files"


class Cursor(NamedTuple):
    """The last file of a page: the next page begins right behind it, newest first.

    Being values and not a count, it stays right whatever is added or removed meanwhile.
    """

    created_us: int
    id: str

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` has made. Raises ValueError."""
        try:
            created_us, raw_id = _FORM.unpack(urlsafe_b64decode(text))
        except (ValueError, struct.error):
            raise ValueError(MALFORMED) from None
        cursor = cls(created_us, str(UUID(bytes=raw_id)))
        if str(cursor) != text:  # the decoder skips what is not in its alphabet
            raise ValueError(MALFORMED)
        return cursor

    def __str__(self) -> str:
        """Write it in characters that need no quoting in a URL (RFC 4648 section 5)."""
        packed = _FORM.pack(self.created_us, UUID(self.id).bytes)
        return urlsafe_b64encode(packed).decode("ascii")
