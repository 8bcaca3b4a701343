from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

# The same examples in every run, and none is judged by the time it takes.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def deliveries() -> Callable[[bytes], list[list[bytes]]]:
    """Return what tells the ways in which the same bytes may arrive, piece by piece."""

    def ways(data: bytes) -> list[list[bytes]]:
        whole, bytewise = [data], [data[i : i + 1] for i in range(len(data))]
        if len(data) > 300:  # every split in two, where that stays quick
            return [whole, bytewise]
        return [whole, bytewise, *([data[:i], data[i:]] for i in range(1, len(data)))]

    return ways
