"""The time of day as responses and log lines show it, rendered once a second."""

from __future__ import annotations

from datetime import datetime
from time import localtime, strftime, time

from httpd.protocol.render import http_date


class Clock:
    """Rendering a date costs more than all the rest of a small response's head."""

    __slots__ = ("_date", "_iso", "_second", "_stamp")

    def __init__(self) -> None:
        """Start with nothing rendered."""
        self._second = -1
        self._date = self._stamp = self._iso = ""

    # Each asks for the time: the loop could tell it once a turn, but a turn may begin with an
    # hour of sleep; and a common method would cost as much as the time does.

    @property
    def date(self) -> str:
        """The present second as the Date field has it (RFC 9110 section 6.6.1)."""
        second = int(time())
        if second != self._second:
            self._render(second)
        return self._date

    @property
    def stamp(self) -> str:
        """The present second as the log of requests has it, in the local time zone."""
        second = int(time())
        if second != self._second:
            self._render(second)
        return self._stamp

    @property
    def iso(self) -> str:
        """The present second as RFC 3339 has it, in the local time zone."""
        second = int(time())
        if second != self._second:
            self._render(second)
        return self._iso

    def _render(self, second: int) -> None:
        self._second = second
        self._date = http_date(second)
        self._stamp = strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second))
        self._iso = datetime.fromtimestamp(second).astimezone().isoformat()
