"""/metrics: the numbers of all workers, whichever of them is asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.daemons import Daemon, until
from tests.service import Service

CONTENT = b"some content"


class Scraped:
    """What a service tells of itself, by sample."""

    def __init__(self, service: Service) -> None:
        reply = service.get("/metrics")
        assert reply.status_code == 200
        self.text = reply.text
        families = list(parse(self.text))
        self.kinds = {family.name: family.type for family in families}
        self.samples = {
            (sample.name.removeprefix("filestored_"), *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((name, *sorted(labels.items())))

    def sum(self, name: str, method: str) -> float:
        """Return the sum of a metric's samples of that method."""
        found = [(key, value) for key, value in self.samples.items() if key[0] == name]
        return sum(value for key, value in found if ("method", method) in key)

    def counters(self) -> dict[tuple[object, ...], float]:
        ends = ("_total", "_count", "_sum", "_bucket")
        return {key: value for key, value in self.samples.items() if str(key[0]).endswith(ends)}


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    with Service(daemon) as service:
        yield service


def has(service: Service, expected: dict[str, float]) -> bool:
    scraped = Scraped(service)
    return all(scraped(name) == value for name, value in expected.items())


def test_uploads_are_counted_with_what_they_did_not_take(service: Service) -> None:
    service.daemon.start("--durability=full")
    for target in ("/", "/", "/files/a.txt"):
        service.post(target, data=CONTENT)
    size = float(len(CONTENT))
    until(
        lambda: has(
            service,
            {
                "blobs": 1, "blob_bytes": size, "dedup_hits_total": 2,
                "dedup_bytes_total": 2 * size, "upload_bytes_total": 3 * size,
                "flush_batch_size_sum": 1, "flush_duration_seconds_count": 1,
            },
        )
    )  # fmt: skip
    scraped = Scraped(service)
    assert scraped("uploads_total", door="hash") == 2
    assert scraped("uploads_total", door="id") == 1
    digest = service.post("/", data=b"other").text
    assert service.delete(f"/?file_hash={digest}").status_code == 200
    assert has(service, {"blobs": 1, "blob_bytes": size})


def test_what_was_stored_before_is_counted(service: Service) -> None:
    service.daemon.start()
    service.post("/", data=CONTENT)
    service.daemon.stop()
    folder = service.daemon.store / "00"
    folder.mkdir()
    (folder / ("0" * 32)).write_bytes(b"by hand")
    service.daemon.start()
    until(lambda: has(service, {"blobs": 2, "blob_bytes": len(CONTENT) + 7}))


def test_requests_by_method_and_status(service: Service) -> None:
    service.daemon.start()
    digest = service.post("/", data=CONTENT).text
    for _ in range(20):  # new connections, so that both workers get some
        with Service(service.daemon) as other:
            other.get_file(digest, Range="bytes=0-1")
            other.get_file(digest, Range="bytes=0-1")  # out of memory
    service.get_file("0" * 32)
    service.put("/", data=b"x")
    expected = {("GET", "206"): 40, ("GET", "404"): 1, ("POST", "200"): 1, ("other", "405"): 1}

    def told() -> bool:
        scraped = Scraped(service)
        return expected == {
            (method, status): scraped("requests_total", method=method, status=status)
            for method, status in expected
        }

    until(told)
    scraped = Scraped(service)
    gets = scraped.sum("requests_total", "GET")
    assert gets >= 41
    assert scraped.sum("request_duration_seconds_count", "GET") == gets


def test_connections_by_state(service: Service) -> None:
    service.daemon.start()
    idle = [service.daemon.connect() for _ in range(5)]
    sending = service.daemon.connect()
    sending.sendall(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc")

    def told() -> bool:
        scraped = Scraped(service)
        states = [scraped("connections", state=state) for state in ("idle", "receiving")]
        return states in ([5, 2], [6, 1])  # the connection of the scrape is among them

    until(told)
    for connection in (*idle, sending):
        connection.close()
    until(lambda: (Scraped(service)("connections", state="idle") or 0) <= 1)


def test_bytes_are_counted_while_they_move(service: Service) -> None:
    service.daemon.start()
    digest = service.post("/", data=bytes(32 << 20)).text
    until(lambda: (Scraped(service)("received_bytes_total") or 0) > 32 << 20)
    with service.daemon.connect() as reader:
        reader.sendall(f"GET /?file_hash={digest} HTTP/1.1\r\nHost: t\r\n\r\n".encode())
        # It is never read to its end: what the kernel has taken is counted all the same.
        until(lambda: (Scraped(service)("sent_bytes_total") or 0) > 64 << 10)
        until(lambda: Scraped(service)("connections", state="sending") == 1)


def test_no_counter_goes_backwards_when_a_worker_dies(service: Service) -> None:
    service.daemon.start()
    for number in range(20):
        with Service(service.daemon) as other:
            other.post("/", data=b"%d" % number)
    until(lambda: Scraped(service)("requests_total", method="POST", status="200") == 20)
    before = Scraped(service)
    held = [service.daemon.connect() for _ in range(8)]
    until(lambda: (Scraped(service)("connections", state="idle") or 0) >= 8)
    for pid in service.daemon.workers():
        os.kill(pid, signal.SIGKILL)
    service.close()  # its connection has died as well
    until(lambda: _scrape_again(service) and Scraped(service)("worker_restarts_total") == 2)
    until(lambda: Scraped(service)("workers") == 2)
    after = Scraped(service)
    for key, value in before.counters().items():
        assert after.samples[key] >= value, key
    assert (after("connections", state="idle") or 0) <= 1
    for connection in held:
        connection.close()


def _scrape_again(service: Service) -> bool:
    try:
        return service.get("/healthz").status_code == 200
    except OSError:
        return False


def test_no_counter_goes_backwards_in_a_reload(service: Service) -> None:
    service.daemon.start()
    for number in range(10):
        service.post("/", data=b"%d" % number)
    old = service.daemon.workers()
    service.daemon.signal(signal.SIGHUP)
    service.close()
    until(lambda: not service.daemon.workers() & old)
    told = Scraped(service)
    assert (told("requests_total", method="POST", status="200"), told("workers")) == (10, 2)
    assert told("worker_restarts_total") == 0


def test_what_verify_has_found(service: Service, tmp_path: Path) -> None:
    service.daemon.start()
    digest = service.post("/", data=CONTENT).text
    assert Scraped(service)("verify_blobs") is None
    assert service.daemon.command("verify").returncode == 0
    clean = Scraped(service)
    assert (clean("verify_blobs"), clean("verify_faults", kind="damaged")) == (1, None)
    (service.daemon.store / digest[:2] / digest).write_bytes(b"damaged")
    assert service.daemon.command("verify").returncode == 1
    told = Scraped(service)
    assert told("verify_faults", kind="damaged") == 1
    assert (told("verify_time_seconds") or 0) > (clean("verify_time_seconds") or 0)


@pytest.mark.parametrize("note", ["{", "7", '{"time": 1}'])
def test_a_note_that_cannot_be_read_is_none(note: str, service: Service) -> None:
    service.daemon.start("--workers=1")
    (service.daemon.store / ".verified").write_text(note)
    assert Scraped(service)("verify_time_seconds") is None


def test_both_formats_can_be_parsed(service: Service) -> None:
    service.daemon.start()
    text = service.get("/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    open_one = service.get("/metrics", headers={"Accept": accept})
    assert open_one.headers["Content-Type"].startswith("application/openmetrics-text")
    names = {family.name.removesuffix("_total") for family in parse(text.text)}
    assert {family.name for family in parse_openmetrics(open_one.text)} == names
    for reply in (text, open_one):
        assert reply.headers["Cache-Control"] == "no-store"
    assert service.post("/metrics", data=b"x").status_code == 405
