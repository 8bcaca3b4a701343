"""Byte ranges (RFC 9110 section 14) and the parts of a multipart/byteranges answer."""

from __future__ import annotations

from re import Match

from httpd.exchange import Refusal
from httpd.protocol.grammar import BYTE_RANGES, RANGE_SPEC
from httpd.protocol.render import render_fields

# More ranges than any reader asks for at once. A request for more, or for more bytes than there
# are, makes a small request cost a large answer and is served whole (RFC 9110 14.2 and 17.15).
MAX_RANGES = 64


def parse_range(value: str, size: int) -> list[tuple[int, int]] | None:
    """Return the (offset, length) of each satisfiable range, in the order asked for.

    `size` is the representation's, in bytes. None: the field is to be ignored (another unit,
    malformed, excessive, or the end of what is empty). Raises Refusal 416 if no range is
    satisfiable.
    """
    if BYTE_RANGES.fullmatch(value) is None:
        return None
    specs = list(RANGE_SPEC.finditer(value))
    if not 0 < len(specs) <= MAX_RANGES or any(_is_backward(spec) for spec in specs):
        return None
    found = [_resolve(spec, size) for spec in specs]
    satisfiable = [(offset, length) for offset, length in found if length > 0]
    if satisfiable:
        return satisfiable if sum(length for _, length in satisfiable) <= size else None
    if size == 0 and any(spec[3] and int(spec[3]) for spec in specs):
        # The last bytes of nothing are satisfiable (RFC 9110 14.1.2), but no Content-Range says so.
        return None
    raise Refusal(416, "no such range", [("Content-Range", f"bytes */{size}")])


def content_range(offset: int, length: int, size: int) -> str:
    """Return the Content-Range value of one range; `length` is above 0 (RFC 9110 14.4)."""
    return f"bytes {offset}-{offset + length - 1}/{size}"


def part_head(boundary: str, content_type: str, offset: int, length: int, size: int) -> bytes:
    """Return what goes before the bytes of one range in multipart/byteranges (RFC 9110 14.6)."""
    fields = render_fields(
        [("Content-Type", content_type), ("Content-Range", content_range(offset, length, size))]
    )
    return b"\r\n--%b\r\n%b\r\n" % (boundary.encode("ascii"), fields)


def closing(boundary: str) -> bytes:
    """Return what goes after the bytes of the last range (RFC 2046 section 5.1.1)."""
    return b"\r\n--%b--\r\n" % boundary.encode("ascii")


def _is_backward(spec: Match[str]) -> bool:
    """Tell whether the last position is before the first, which makes the field invalid."""
    return bool(spec[2]) and int(spec[2]) < int(spec[1])


def _resolve(spec: Match[str], size: int) -> tuple[int, int]:
    """Return a range's (offset, length) within the size; a length of 0 or less: unsatisfiable."""
    first, last, suffix = spec.groups()
    if suffix:
        length = min(int(suffix), size)
        return size - length, length
    offset = int(first)
    end = min(int(last) + 1, size) if last else size
    return offset, end - offset
