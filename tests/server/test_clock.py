from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from httpd.server import clock
from httpd.server.clock import Clock
from httpd.server.connection import Handler
from tests.served import request
from tests.server.conftest import Serve

NOON = 784111777  # the example of RFC 9110 section 5.6.7


class Watch:
    """A time of day that is set by hand."""

    def __init__(self) -> None:
        self.time = NOON + 0.25

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch()
    monkeypatch.setattr(clock, "time", watch)
    monkeypatch.setenv("TZ", "XYZ-05:30")  # POSIX counts westward
    time.tzset()
    yield watch
    monkeypatch.undo()
    time.tzset()


def test_the_date_is_in_gmt_and_the_stamp_in_the_local_zone(watch: Watch) -> None:
    clock = Clock()
    assert clock.date == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert clock.stamp == "06/Nov/1994:14:19:37 +0530"


def test_a_second_is_rendered_once(watch: Watch) -> None:
    clock = Clock()
    date, stamp = clock.date, clock.stamp
    watch.time += 0.7
    clock.tick()
    assert clock.date is date
    assert clock.stamp is stamp
    watch.time += 0.1
    clock.tick()
    assert clock.date.endswith("08:49:38 GMT")
    assert clock.stamp.endswith("14:19:38 +0530")


def test_the_first_response_after_a_quiet_hour_has_the_time_of_now(
    serve: Serve, echo: Handler, watch: Watch
) -> None:
    served = serve(echo)
    client = served.connect()
    assert client.ask(request()).fields["date"].endswith("08:49:37 GMT")
    served.catch_up()
    watch.time += 3600
    assert client.ask(request()).fields["date"].endswith("09:49:37 GMT")
    served.catch_up()
    assert [line.split()[3] for line in served.lines] == [
        "[06/Nov/1994:14:19:37",
        "[06/Nov/1994:15:19:37",
    ]
