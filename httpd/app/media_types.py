"""What a file's name says of its type, and what a browser may do with it."""

from __future__ import annotations

from mimetypes import MimeTypes

from httpd.protocol.grammar import MEDIA_TYPE

# The tables that come with Python and not the system's, and what the oldest of them lacks or the
# versions disagree about: the same name means the same everywhere.
_TYPES = MimeTypes()
for _kind, _ending in (
    ("audio/flac", ".flac"), ("audio/mp4", ".m4a"), ("audio/ogg", ".oga"), ("audio/ogg", ".ogg"),
    ("audio/wav", ".wav"), ("audio/webm", ".weba"), ("image/webp", ".webp"),
    ("text/javascript", ".js"), ("text/markdown", ".md"), ("video/ogg", ".ogv"),
):  # fmt: skip
    _TYPES.add_type(_kind, _ending)

UNKNOWN = "application/octet-stream"

# What a browser only shows and never runs, so that it may be opened in place. Everything else,
# HTML and SVG above all, is handed over as a download: it would run in the site's own name.
INERT = {
    "application/json",
    "audio/aac", "audio/flac", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/webm",
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


# What clients send when they know nothing: curl's --data-binary the first, everybody the second.
MEANINGLESS = {"application/x-www-form-urlencoded", UNKNOWN}


def stated_type(stated: str | None, name: str | None) -> str:
    """Return the media type that the sender states, or else the one of the file's name."""
    kind = (stated or "").partition(";")[0].strip().lower()
    if MEDIA_TYPE.fullmatch(kind) and kind not in MEANINGLESS:
        return kind
    return type_of(name or "")


def disposition_of(kind: str) -> str:
    """Return how a browser is to take content of that type: `inline` or `attachment`."""
    return "inline" if kind in INERT else "attachment"


def with_charset(kind: str) -> str:
    """Return the value of Content-Type: text is taken for UTF-8, what most text is."""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
