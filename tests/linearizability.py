"""Whether what clients saw at the same time could have happened one after the other.

The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), which remembers the
configurations it has been in, as Lowe does ("Testing for Linearizability", 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)


class Call(NamedTuple):
    """A request and its answer. `begun` and `ended`: when it was sent, when it was answered."""

    begun: float
    ended: float
    action: str
    status: int
    file_id: str = ""


Step = Callable[[State, Call], State | None]
"""(state, call) -> the state after it; None where the call cannot be answered like that then."""

Steps = Callable[[State, Call], Iterable[State]]
"""The same where more than one state may be after it, or none."""


def is_linearizable(calls: Sequence[Call], start: State, step: Step[State]) -> bool:
    """Tell whether there is an order of the calls that explains every answer.

    A call that ended before another began comes before it.
    """

    def steps(state: State, call: Call) -> list[State]:
        following = step(state, call)
        return [] if following is None else [following]

    return any(True for _ in outcomes(calls, [start], steps))


def outcomes(
    calls: Sequence[Call], starts: Iterable[State], steps: Steps[State]
) -> Iterator[State]:
    """Yield every state in which an order of the calls that explains every answer may end."""
    calls = sorted(calls)
    seen = {(0, frozenset[int](), start) for start in starts}
    waiting = list(seen)
    while waiting:
        first, done, state = waiting.pop()
        # `first`: all calls before it are done; `done`: those done beyond it.
        if first == len(calls):
            yield state
            continue
        for index in _may_be_next(calls, first, done):
            for following in steps(state, calls[index]):
                configuration = (*_advance(first, done | {index}), following)
                if configuration not in seen:
                    seen.add(configuration)
                    waiting.append(configuration)


def _may_be_next(calls: Sequence[Call], first: int, done: frozenset[int]) -> list[int]:
    """Return the calls that began before any call that is left had ended."""
    found: list[int] = []
    earliest_end = calls[first].ended
    for index in range(first, len(calls)):
        if calls[index].begun > earliest_end:
            break
        if index not in done:
            found.append(index)
            earliest_end = min(earliest_end, calls[index].ended)
    return found


def _advance(first: int, done: frozenset[int]) -> tuple[int, frozenset[int]]:
    while first in done:
        done -= {first}
        first += 1
    return first, done
