from __future__ import annotations

from tests.app.conftest import service, shared  # noqa: F401 - fixtures
