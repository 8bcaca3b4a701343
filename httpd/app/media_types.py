"""What a file's name says of its type, and what a browser may do with it."""

from __future__ import annotations

from mimetypes import MimeTypes

# The tables that come with Python and not the system's: the same name means the same everywhere.
_TYPES = MimeTypes()

UNKNOWN = "application/octet-stream"

# What a browser only shows and never runs, so that it may be opened in place. Everything else,
# HTML and SVG above all, is handed over as a download: it would run in the site's own name.
INERT = {
    "application/json",
    "audio/aac", "audio/flac", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/webm",
    "audio/x-wav",
    "image/avif", "image/bmp", "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp",
    "image/vnd.microsoft.icon",
    "text/csv", "text/plain",
    "video/mp4", "video/mpeg", "video/ogg", "video/quicktime", "video/webm",
}  # fmt: skip


def type_of(name: str) -> str:
    """Return the media type that belongs to a file's name."""
    kind, coding = _TYPES.guess_type(name)
    # "notes.txt.gz" is a gzip file: its bytes are not the text that its inner name promises.
    return UNKNOWN if kind is None or coding is not None else kind


def disposition_of(kind: str) -> str:
    """Return how a browser is to take content of that type: `inline` or `attachment`."""
    return "inline" if kind in INERT else "attachment"


def with_charset(kind: str) -> str:
    """Return the value of Content-Type: text is taken for UTF-8, what most text is."""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
