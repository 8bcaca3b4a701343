"""File names in Content-Disposition (RFC 6266, RFC 8187)."""

from __future__ import annotations

from urllib.parse import quote, unquote

from httpd.protocol.grammar import (
    ATTR_CHARS,
    DISPOSITION,
    EXTENDED_VALUE,
    PARAMETER,
    QUOTED_PAIR,
    UNSAFE_IN_FILENAME,
    UNSAFE_IN_TEXT,
)

NAME_BYTES = 255  # NAME_MAX of Linux file systems, limits.h(0p): a download must fit as a file
EXTENSION_BYTES = 32  # what follows the last dot of a longer name is no extension


def filename_of(value: str | None) -> str | None:
    """Return the name that a Content-Disposition field gives; None if it has none or is malformed.

    `filename*` is preferred to `filename` (RFC 6266 4.3). The name is as sent: see `safe_name`.
    """
    match = DISPOSITION.fullmatch(value or "")
    if match is None:
        return None
    parameters: dict[str, str] = {}
    for parameter in PARAMETER.finditer(match[1]):
        name = parameter[1].lower()
        if name in parameters:  # RFC 6266 4.1: twice the same name is invalid
            return None
        parameters[name] = parameter[2]
    extended = _decode_extended(parameters.get("filename*", ""))
    return extended or _decode_plain(parameters.get("filename", "")) or None


def render_disposition(kind: str, name: str) -> str:
    """Return a field value of visible ASCII; `kind` is "inline" or "attachment".

    A name that does not read the same for everyone in `filename` is there with "_" for what
    is special, and exactly in `filename*`. Control characters are left out.
    """
    clean = UNSAFE_IN_TEXT.sub("", name)
    plain = UNSAFE_IN_FILENAME.sub("_", clean)
    value = f'{kind}; filename="{plain}"'
    if plain == clean:
        return value
    return f"{value}; filename*=UTF-8''{quote(clean, safe=ATTR_CHARS)}"


def safe_name(name: str) -> str:
    """Return `name` as a plain file name: no folders, no control characters, at most 255 bytes.

    Returns "" where nothing of it is a name: the caller knows what to call it then.
    """
    clean = UNSAFE_IN_TEXT.sub("", name).replace("\\", "/")
    last = clean.rpartition("/")[2].strip()
    return "" if last in (".", "..") else _cut(last)


def _cut(name: str) -> str:
    """Cut a name to NAME_BYTES of UTF-8 between two characters, and keep its extension."""
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = (dot + extension).encode()
    if not stem or len(ending) > EXTENSION_BYTES:
        stem, ending = name, b""
    return (stem.encode()[: NAME_BYTES - len(ending)] + ending).decode(errors="ignore")


def _decode_plain(value: str) -> str:
    """Return the name in a token or quoted string.

    What was read as Latin-1 is mostly raw UTF-8: browsers and curl send it so.
    """
    if value.startswith('"'):
        value = QUOTED_PAIR.sub(r"\1", value[1:-1])
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


def _decode_extended(value: str) -> str | None:
    """Return the name in an extended value (RFC 8187 3.2); None if malformed."""
    match = EXTENDED_VALUE.fullmatch(value)
    if match is None:
        return None
    try:
        return unquote(match[2], encoding=match[1], errors="strict")
    except UnicodeDecodeError:
        return None
