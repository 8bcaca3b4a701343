"""What a loop counts comes to the board, and once."""

from __future__ import annotations

import pytest

from httpd.metrics import counting
from httpd.metrics.reading import Sums
from httpd.server.loop import Loop
from httpd.server.traffic import Traffic

pytestmark = pytest.mark.usefixtures("own_board")


@pytest.fixture
def traffic(loop: Loop) -> Traffic:
    return Traffic(loop, ())


@pytest.mark.parametrize(
    ("method", "status", "counted"),
    [("GET", 200, ("GET", 200)), ("BREW", 405, ("other", 405)), ("POST", 777, ("POST", 599))],
)
def test_answers_by_method_and_status(
    traffic: Traffic, method: str, status: int, counted: tuple[str, int]
) -> None:
    traffic.answered(method, status).add(0)
    traffic.tell()
    numbers = {
        (method, status): Sums()[counting.requests_place(method, status)]
        for method in counting.METHODS
        for status in counting.STATUSES
    }
    assert {key: number for key, number in numbers.items() if number} == {counted: 1}


def test_a_histogram_adds_up_from_the_left(traffic: Traffic) -> None:
    for seconds in (0.0001, 0.00011, 1000.0):  # a bound is in its bucket
        traffic.answered("GET", 200).add(seconds)
    traffic.tell()
    buckets, total = Sums().histogram(counting.REQUEST_DURATION["GET"])
    assert buckets[:3] == [("0.0001", 1), ("0.00025", 2), ("0.0005", 2)]
    assert buckets[-2:] == [("300", 2), ("+Inf", 3)]
    assert total == pytest.approx(1000.00021)


def test_methods_that_are_none_are_counted_as_one(traffic: Traffic) -> None:
    """A client can send any number of them, and none may take memory of its own."""
    assert traffic.answered("BREW", 405) is traffic.answered("WHEN", 405)


def test_an_answer_is_told_of_once(traffic: Traffic) -> None:
    kept = traffic.answered("GET", 200)
    for _ in range(3):
        kept.add(0.5)
        traffic.tell()
        traffic.tell()
    assert Sums()[counting.requests_place("GET", 200)] == 3
    buckets, total = Sums().histogram(counting.REQUEST_DURATION["GET"])
    assert buckets[-1] == ("+Inf", 3)
    assert total == pytest.approx(1.5)
