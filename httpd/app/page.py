"""The page that a browser finds at `/`."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from httpd.exchange import Response

_PAGE = Path(__file__).with_name("page.html").read_bytes()
_STYLE = _PAGE.partition(b"<style>")[2].partition(b"</style>")[0]

# Nothing but the page's own style and its forms: no script, no frame around it.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE).digest()).decode()}'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def page() -> Response:
    """Return the page: a form to store files, a form to fetch one, and how to do it with curl."""
    return Response(
        200,
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", _POLICY),
            ("Cache-Control", "no-cache"),
            ("Referrer-Policy", "no-referrer"),
            ("Vary", "Accept"),
        ],
        _PAGE,
    )
