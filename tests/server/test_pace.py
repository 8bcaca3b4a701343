from __future__ import annotations

import pytest

from httpd.server.pace import Pace

GRACE, NOW = 10.0, 1000.0


@pytest.mark.parametrize(
    ("rate", "moved", "waited", "deadline"),
    [
        (0, 0, 0.0, NOW + GRACE),
        (0, 0, 500.0, NOW + GRACE),  # without a rate, silence alone counts
        (100, 0, 0.0, NOW + GRACE),
        (100, 0, 4.0, NOW + GRACE - 4),  # nothing has come in the time of 400 bytes
        (100, 400, 4.0, NOW + GRACE),
        (100, 350, 4.0, NOW + GRACE - 0.5),
        (100, 10**9, 4.0, NOW + GRACE),  # what is ahead of the rate is no right to be silent longer
        (100, 0, 11.0, NOW - 1),
    ],
)
def test_silence_and_the_average_are_bounded(
    rate: int, moved: int, waited: float, deadline: float
) -> None:
    pace = Pace(GRACE, rate)
    pace.moved, pace.waited = moved, waited
    assert pace.deadline(NOW) == pytest.approx(deadline)
