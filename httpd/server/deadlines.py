"""Which tasks have waited too long: a timing wheel of coarse slots."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from httpd.server.loop import Task

# Deadlines are seconds to minutes long: an eighth of a second late is exact enough, and keeps ten
# thousand of them in a few hundred slots.
TICK = 0.125


class Deadlines:
    """Tasks filed by the slot in which their deadline falls.

    Lazy, because a busy connection moves its deadline with every request: a deadline that moves
    later costs nothing, the task stays where it is and is filed anew when its old slot comes up.
    A heap of tasks would keep every closed connection in memory until its deadline; a task that
    ends leaves its slot at once.
    """

    def __init__(self) -> None:
        """Start with no task filed."""
        self._slots: dict[int, set[Task]] = {}
        self._order: list[int] = []

    def file(self, task: Task) -> None:
        """Note the task's deadline, unless an earlier slot will look at it anyway."""
        # The slot after the one the deadline falls into: late by a tick at most, never early.
        slot = int(task.deadline / TICK) + 1
        if task.slot is not None:
            if task.slot <= slot:
                return
            self._slots[task.slot].discard(task)
        tasks = self._slots.get(slot)
        if tasks is None:
            tasks = self._slots[slot] = set()
            heappush(self._order, slot)
        tasks.add(task)
        task.slot = slot

    def drop(self, task: Task) -> None:
        """Forget a task that has ended."""
        if task.slot is not None:
            self._slots[task.slot].discard(task)
            task.slot = None

    def until_next(self, now: float) -> float:
        """Return the seconds until a slot comes up, or -1 where none is filed (epoll's forever)."""
        return max(0.0, self._order[0] * TICK - now) if self._order else -1

    def expired(self, now: float) -> list[Task]:
        """Take the tasks whose deadline has passed; those that have moved theirs are filed anew."""
        late: list[Task] = []
        while self._order and self._order[0] * TICK <= now:
            for task in self._slots.pop(heappop(self._order)):
                task.slot = None
                if task.deadline <= now:
                    late.append(task)
                elif task.deadline != inf:
                    self.file(task)
        return late
