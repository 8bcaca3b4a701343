"""What a failing database becomes: one exception with a reason that can be shown."""

from __future__ import annotations


class CatalogUnavailable(Exception):
    """The database cannot be used now: gone, locked, read-only, full, or of a newer version.

    `reason` is one line, for the log: it may name hosts, users and tables, never a password.
    `full`: the database's disk is full.
    """

    def __init__(self, reason: str, *, full: bool = False) -> None:
        """Take the reason."""
        super().__init__(reason)
        self.reason = reason
        self.full = full
