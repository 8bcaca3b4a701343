"""The time of day as responses and log lines show it, rendered once a second."""

from __future__ import annotations

from time import localtime, strftime, time

from httpd.protocol.render import http_date


class Clock:
    """Rendering a date costs more than all the rest of a small response's head."""

    __slots__ = ("_second", "date", "stamp")

    def __init__(self) -> None:
        """Start at the present second."""
        self._second = -1
        self.tick()

    def tick(self) -> None:
        """Render anew when the second has changed; called once a turn of the loop."""
        second = int(time())
        if second != self._second:
            self._second = second
            self.date = http_date(second)  # RFC 9110 section 6.6.1
            self.stamp = strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second))  # the log's
