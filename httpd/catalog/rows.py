"""What the catalog hands out: files, blobs and pages of files."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class File(NamedTuple):
    """A name for some content."""

    id: str  # a UUID in its canonical form
    algorithm: str
    digest: str  # lower-case hex
    type: str | None  # media type
    name: str
    size: int  # bytes
    created_at: datetime  # UTC, to the microsecond


class BlobRow(NamedTuple):
    """What is known of content that came in under a name, or was about to."""

    digest: str  # lower-case hex
    algorithm: str
    size: int  # bytes
    stored_by_hash: bool
    token: str | None  # what the storage knows the content by that was last noted
    noted_at: datetime  # UTC, to the microsecond


class Page(NamedTuple):
    """Some files, newest first; `next` is the cursor of the page after it, None on the last."""

    files: tuple[File, ...]
    next: str | None
