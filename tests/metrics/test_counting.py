"""What is counted, added up."""

from __future__ import annotations

from threading import Thread

import pytest

from httpd import metrics
from httpd.metrics import counting, reading
from httpd.metrics.reading import Sums


@pytest.fixture(autouse=True)
def _board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count on a board of the test's own."""
    for name in ("board", "_own"):
        monkeypatch.setattr(counting, name, getattr(counting, name))
    metrics.open_board()


def test_places_do_not_overlap() -> None:
    metrics.observe_request("GET", 200, 0.25)
    metrics.upload("id", 10, created=False)
    metrics.blob_added("ff", 1)
    metrics.observe_flush(0.5, 3)
    sums = Sums()
    told = [sums[place] for place in range(counting.SEAT_CELLS)]
    assert sorted(number for number in told if number) == [
        1, 1, 1, 1, 1, 1, 1, 1, 3, 10, 10, 250_000_000, 500_000_000
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "status", "counted"),
    [("GET", 200, ("GET", 200)), ("BREW", 405, ("other", 405)), ("POST", 777, ("POST", 599))],
)
def test_requests_by_method_and_status(method: str, status: int, counted: tuple[str, int]) -> None:
    metrics.observe_request(method, status, 0)
    numbers = {
        (method, status): Sums()[counting.requests_place(method, status)]
        for method in counting.METHODS
        for status in counting.STATUSES
    }
    assert {key: number for key, number in numbers.items() if number} == {counted: 1}


def test_a_histogram_adds_up_from_the_left() -> None:
    for seconds in (0.0001, 0.00011, 1000.0):  # a bound is in its bucket
        metrics.observe_request("GET", 200, seconds)
    buckets, total = Sums().histogram(counting.REQUEST_DURATION["GET"])
    assert buckets[:3] == [("0.0001", 1), ("0.00025", 2), ("0.0005", 2)]
    assert buckets[-2:] == [("300", 2), ("+Inf", 3)]
    assert total == pytest.approx(1000.00021)


def test_no_count_is_lost_between_threads() -> None:
    def count() -> None:
        for _ in range(20_000):
            metrics.add(metrics.WORKER_RESTARTS)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Sums()[metrics.WORKER_RESTARTS] == 80_000


def test_what_is_stored_is_unknown_until_it_is_counted() -> None:
    metrics.blob_added("ab12", 100)
    assert Sums().stored is None
    with reading.census(60) as due:
        assert due
        reading.note_census(5, 50)
    metrics.blob_removed("ab34", 30)
    assert Sums().stored == (5, 120)
    assert reading.change_of(0xAB) == (0, 70)
    with reading.census(60) as due:
        assert not due
    with reading.census(0) as due:
        assert due
