"""What the errors of SQLAlchemy and of the drivers become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, errorcode

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from httpd.catalog.errors import CatalogUnavailable

# Codes of a full disk: SQLite's (sqlite.org/rescode.html), PostgreSQL's (appendix A), errno(3)'s.
FULL = {
    "SQLITE_FULL",
    "SQLITE_IOERR_SHMSIZE",  # the index of the write-ahead log has found no room to grow
    "53100",
    errorcode[ENOSPC],
    errorcode[EDQUOT],
}


@contextmanager
def answering() -> Iterator[None]:
    """Let no error of SQLAlchemy, of a driver or of the lock file out.

    Raises ValueError for what the schema forbids, and CatalogUnavailable for everything else.
    What caused it stays behind: frames and arguments of a driver hold the password.
    """
    try:
        yield
    except IntegrityError as error:
        raise ValueError(f"the catalog refuses this: {_reason(error)}") from None
    except SQLAlchemyError as error:
        raise CatalogUnavailable(_reason(error), full=_code(error) in FULL) from None
    except OSError as error:
        code = errorcode.get(error.errno or 0)
        raise CatalogUnavailable(str(error), full=code in FULL) from None


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's own words: SQLAlchemy's add the statement with its parameters."""
    said = error.orig if isinstance(error, DBAPIError) else error.args[0]
    return " ".join(str(said).split())


def _code(error: SQLAlchemyError) -> str | None:
    """Return SQLite's name of the error, or PostgreSQL's SQLSTATE."""
    original = getattr(error, "orig", None)
    return getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
