"""When the service manager is told that all is well."""

from __future__ import annotations

import time
from math import inf

from httpd.process.crew import Crew, Role
from httpd.process.notify import Notifier


class Watchdog:
    """Speaks for the crew: silent while nobody serves, or while somebody's loop stands still."""

    def __init__(self, notifier: Notifier) -> None:
        """Take who is to be told, and how often."""
        self._notifier = notifier
        self.due = 0.0 if notifier.interval < inf else inf  # on the monotonic clock

    def look(self, crew: Crew, stall_timeout: float, *, leaving: bool) -> None:
        """Tell it if it is time to, and true; the last workers of a stop are past being judged."""
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + self._notifier.interval
        ready = [worker for worker in crew.of(Role.CREW) if worker.ready]
        patience = stall_timeout or 2 * self._notifier.interval
        serving = ready and not any(crew.stalled(worker, patience) for worker in ready)
        if leaving or serving:
            self._notifier.alive()
