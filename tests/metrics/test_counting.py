"""What is counted, added up."""

from __future__ import annotations

from threading import Thread

import pytest

from httpd import metrics
from httpd.metrics import counting, reading
from httpd.metrics.reading import Sums
from httpd.server.traffic import Answered

pytestmark = pytest.mark.usefixtures("own_board")


def test_places_do_not_overlap() -> None:
    answered = Answered("GET", 200)
    answered.add(0.25)
    counting.merge(answered.take())
    metrics.upload("id", 10, created=False)
    metrics.blob_added("ff", 1)
    metrics.observe_flush(0.5, 3)
    sums = Sums()
    told = [sums[place] for place in range(counting.SEAT_CELLS)]
    assert sorted(number for number in told if number) == [
        1, 1, 1, 1, 1, 1, 1, 1, 3, 10, 10, 250_000_000, 500_000_000
    ]  # fmt: skip


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
