"""Which status an error of the floors below becomes: one table."""

from __future__ import annotations

from errno import EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC

from loguru import logger

from httpd.app.references import InUse, UnknownFile
from httpd.catalog.errors import CatalogUnavailable
from httpd.exchange import Refusal
from httpd.storage.contract import Collision, Damaged, DigestMismatch, NotFound
from httpd.storage.digest import BadDigest

STATUSES: dict[type[Exception], int] = {
    BadDigest: 400,
    DigestMismatch: 400,
    NotFound: 404,
    UnknownFile: 404,
    Collision: 409,
    InUse: 409,
    Damaged: 500,
}
# Of the system's errors those that a client can do something about: wait, or choose another
# store. Every other one is 500.
ERRNO_STATUSES: dict[int, tuple[int, str]] = {
    ENOSPC: (507, "the store is full"),
    EDQUOT: (507, "the store's quota is used up"),
    EMFILE: (503, "too many files are open; try again"),
    ENFILE: (503, "too many files are open; try again"),
    ENOMEM: (503, "out of memory; try again"),
}
TRANSLATED: tuple[type[Exception], ...] = (*STATUSES, OSError, CatalogUnavailable)


def refusal_of(error: Exception) -> Refusal:
    """Return what to tell the client of one of the TRANSLATED errors."""
    if isinstance(error, OSError):
        logger.error("the store failed: {}", error)
        other = f"the store failed: {error.strerror or 'the log tells more'}"
        status, reason = ERRNO_STATUSES.get(error.errno or 0, (500, other))
        return Refusal(status, reason)
    if isinstance(error, CatalogUnavailable):
        logger.error("the catalog failed: {}", error)
        if error.full:
            return Refusal(507, "the catalog's disk is full")
        return Refusal(503, "the catalog is not available; try again")
    if isinstance(error, Damaged):
        logger.error("{}", error)
    return Refusal(STATUSES[type(error)], str(error))
