"""What upkeep asks of the two front doors; the composition root hands in who answers it.

Who refers to which content is known to the application, on the same floor, and checking it must
take the same steps under the same locks as serving does.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple, Protocol

from httpd.catalog.rows import File
from httpd.storage.contract import Staged, Storage, Stored
from httpd.storage.digest import Digest


class References(Protocol):
    """Who refers to which content. Raises OSError and CatalogUnavailable besides what is said."""

    def is_orphan(self, digest: Digest) -> bool:
        """Tell whether an upload has left something that was never acknowledged."""

    def free_orphan(self, digest: Digest) -> bool:
        """Free it; tell whether there was content to free."""

    def lacks_content(self, file: File) -> bool:
        """Tell whether there is such a name, and its content is not there."""

    def keep_by_hash(self, digest: Digest) -> Stored:
        """Let content that is here stay until it is deleted by hash. Raises NotFound."""

    def store_by_hash(self, staged: Staged, expected: Collection[Digest]) -> Stored:
        """Publish content that stays until it is deleted by hash; raise as `publish` does."""


class Doors(NamedTuple):
    """A storage that names new content by one algorithm, and the doors to it."""

    storage: Storage
    references: References


class Naming(Protocol):
    """Publishes content under an id."""

    def __call__(self, staged: Staged, file_id: str, name: str, created_at: datetime) -> None:
        """Publish it; raise as `Staged.publish` does."""
