"""What the tests of the front door by id send."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from urllib.parse import quote

from tests import raw
from tests.service import Service

JSON = {"Accept": "application/json"}


def upload(service: Service, content: bytes, name: str = "") -> str:
    """Store content under a name; return its id."""
    receipt = service.post(f"/files/{quote(name, safe='')}", data=content)
    assert receipt.status_code == 201, receipt.text
    return receipt.text


def expecting(template: str, content: bytes) -> str:
    """Fill the content's MD5 into a template, as {digest} or {base64}."""
    running = hashlib.md5(content)
    return template.format(digest=running.hexdigest(), base64=b64encode(running.digest()).decode())


def form_body(*parts: bytes, closing: bytes = b"--frontier--\r\n") -> tuple[bytes, str]:
    """Return the content of a form, and the field that tells of it, for `raw.post`."""
    return b"".join(parts) + closing, f"Content-Type: multipart/form-data; boundary={raw.BOUNDARY}"
