"""What is at the door: the page, a line of usage, the probes."""

from __future__ import annotations

import pytest

from httpd.app.health import Health
from httpd.exchange import Fields, Refusal, Request
from tests.service import Service

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize("path", ["/", "/?"])
def test_page_for_browsers(path: str, service: Service) -> None:
    answer = service.get(path, headers={"Accept": BROWSER})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Vary"] == "Accept"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert 'enctype="multipart/form-data"' in answer.text


@pytest.mark.parametrize("accept", ["*/*", "", "text/plain", "text/html;q=0.5, */*", "text/*"])
def test_usage_for_all_others(accept: str, service: Service) -> None:
    answer = service.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        400,
        "text/plain; charset=utf-8",
    )
    assert answer.text.startswith("usage: POST / ")


@pytest.mark.parametrize(("path", "text"), [("/healthz", "ok\n"), ("/readyz", "ready\n")])
def test_probes(path: str, text: str, service: Service) -> None:
    answer = service.get(path)
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["Cache-Control"] == "no-store"


def test_worker_that_drains_is_not_ready() -> None:
    # On the wire only a request that is there at the very moment of the signal meets this.
    health = Health(None, None, draining=lambda: True)  # type: ignore[arg-type]
    request = Request("GET", "/readyz", (), Fields(), None, "peer")  # type: ignore[arg-type]
    with pytest.raises(Refusal) as refused:
        health.ready(request).send(None)
    assert (refused.value.status, dict(refused.value.fields)) == (503, {"Retry-After": "1"})
