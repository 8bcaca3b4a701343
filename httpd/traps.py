"""What a coroutine may ask of the loop that runs it.

A coroutine here never blocks: it yields a trap, and `server.loop` resumes it when the trap is
satisfied. The words are on floor 1 so that the application can say `await in_pool(…)` without
knowing the server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from contextvars import copy_context
from math import inf
from select import EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT
from types import coroutine
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
T = TypeVar("T")

Attempt = Callable[[], float | None]
"""What the loop calls when a descriptor is ready, before it resumes whoever waits for that.

Returns until when to wait on, where all there was to do is done, or None. What it raises is raised
where it is waited.
"""

Wait = tuple[int, int, float, Attempt | None]
"""(descriptor or NOTHING, epoll events, deadline on the monotonic clock in seconds, attempt)."""

NOTHING = -1
"""In place of a descriptor: wait for the deadline alone."""


class DeadlineExpired(Exception):
    """The deadline of a wait has passed and the descriptor is still not ready."""


class Lane:
    """An order for some jobs of the pool: one at a time, each as soon as the one before is done.

    The thread that is done with one goes on with the next, unless other jobs wait for a thread.
    Left to any two threads, such jobs would wait for each other by a lock, and to pass that on
    costs two context switches.
    """

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        """Make it, with no job in it. What is in it is the pool's."""
        self.taken = False
        self.waiting: deque[Job[Any]] = deque()


class Job(Generic[T]):
    """A call that runs in the worker's thread pool; await it for its result.

    A job may be awaited once, by one coroutine, and may finish before that.
    """

    __slots__ = (
        "args", "context", "done", "error", "function", "lane", "result", "shared", "started",
        "waiter",
    )  # fmt: skip

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        shared: bool = False,
        lane: Lane | None = None,
    ) -> None:
        """Take the call to make; the loop starts it when the job is first yielded.

        `shared`: the call is made for several jobs at once, see `together`. `lane`: it waits for
        those that were started in that lane before.
        """
        self.function = function
        self.args = args
        self.shared = shared
        self.lane = lane
        self.context = copy_context()  # what is logged in the pool names the request as well
        self.started = False
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.waiter: Any = None  # the loop's: the task to resume

    def run(self) -> None:
        """Make the call, in a thread of the pool; keep its result or its error."""
        try:
            self.finish(self.context.run(self.function, *self.args))
        except BaseException as error:
            self.finish(error)

    def finish(self, outcome: T | BaseException) -> None:
        """Keep what has come of the call."""
        if isinstance(outcome, BaseException):
            self.error = outcome
        else:
            self.result = outcome
        self.done = True

    def __await__(self) -> Generator[Any, None, T]:
        """Wait until the call has returned; raise what it raised."""
        while not self.done:
            yield self
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # set whenever error is not


@coroutine
def readable(
    descriptor: int, deadline: float = inf, attempt: Attempt | None = None
) -> Generator[Wait, None, None]:
    """Wait until `descriptor` can be read; raise DeadlineExpired if it stays silent too long.

    With an `attempt`, until that has left something to do. May return too early, where the
    descriptor's number has been somebody else's a moment ago; so an attempt may find nothing.
    """
    yield descriptor, EPOLLIN, deadline, attempt


@coroutine
def writable(descriptor: int, deadline: float = inf) -> Generator[Wait, None, None]:
    """Wait until `descriptor` can be written; raise DeadlineExpired if it stays full too long.

    May return too early, as `readable`.
    """
    yield descriptor, EPOLLOUT, deadline, None


@coroutine
def acceptable(listener: int) -> Generator[Wait, None, None]:
    """Wait until `listener` has a connection; of several workers the kernel wakes one or a few."""
    yield listener, EPOLLIN | EPOLLEXCLUSIVE, inf, None


async def pause(deadline: float) -> None:
    """Wait until the deadline."""
    with suppress(DeadlineExpired):
        await _nothing(deadline)


@coroutine
def _nothing(deadline: float) -> Generator[Wait, None, None]:
    yield NOTHING, 0, deadline, None


@coroutine
def start(
    function: Callable[..., T], *args: Any, lane: Lane | None = None
) -> Generator[Job[T], None, Job[T]]:
    """Start a call in the pool and go on at once; await the returned job for its result.

    In a `lane` it is made after those that were started there before.
    """
    job: Job[T] = Job(function, args, lane=lane)
    yield job
    return job


async def in_pool(function: Callable[..., T], *args: Any) -> T:
    """Make a call that may block (fsync, a database, a big hash) off the loop."""
    return await (await start(function, *args))


async def together(function: Callable[[list[Item]], Sequence[T | Exception]], item: Item) -> T:
    """Have a call made off the loop for this item, and for those of others that wait by then.

    While one such call is made, the items that come are gathered for the next; one that comes when
    none is made waits for nobody. The call returns for each item what is to be returned here, or
    raised.
    """
    job: Job[T] = Job(function, (item,), shared=True)
    await _started(job)
    return await job


@coroutine
def _started(job: Job[T]) -> Generator[Job[T], None, None]:
    yield job
