"""The time of day as responses and log lines show it, rendered once a second."""

from __future__ import annotations

from datetime import datetime
from time import localtime, strftime, time

from httpd.protocol.render import http_date


class Clock:
    """Rendering a date costs more than all the rest of a small response's head.

    What it shows is as of the last `tick`. The loop lets it tick whenever it wakes, and not who
    reads it: measured, half a µs for a response and its line in the log.
    """

    __slots__ = ("_second", "date", "iso", "stamp")

    def __init__(self) -> None:
        """Show the present second."""
        self._second = -1
        self.date = ""  # as the Date field has it (RFC 9110 section 5.6.7)
        self.stamp = ""  # as the log of requests has it, in the local time zone
        self.iso = ""  # as RFC 3339 has it, in the local time zone
        self.tick()

    def tick(self) -> None:
        """Show the present second."""
        second = int(time())
        if second != self._second:
            self._second = second
            self.date = http_date(second)
            self.stamp = strftime("%d/%b/%Y:%H:%M:%S %z", localtime(second))
            self.iso = datetime.fromtimestamp(second).astimezone().isoformat()
