"""The id of a request, `X-Request-Id`: the client's own, or one that is made here.

It is in the answer and in every line that is logged of the request, so that one can be found by
the other; a proxy in front gives each request its own, to find it in the logs of both.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from itertools import count
from types import coroutine
from typing import Any, NamedTuple, TypeVar

from httpd.exchange import Fields

T = TypeVar("T")

FIELD = "X-Request-Id"
# What stands for itself in a log line, in JSON and in a field: no quotes, spaces or escapes. Long
# enough for the ids of tracing systems, short enough for a log that nobody can fill with them.
SANE = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_LINE = re.compile(rb"\r\n[Xx]-[Rr]equest-[Ii][Dd]: ?([A-Za-z0-9._~:/+=@-]{1,128})(?=\r\n)")


class Asked(NamedTuple):
    """A request's bytes without the line of its id, and the id where it has that line."""

    question: bytes
    request_id: str


class RequestIds:
    """Makes ids that no other worker makes, now or later.

    A random part, the number of the connection and that of the request on it, which costs less
    than anything else that is unique: it is made for every answer out of memory.
    """

    def __init__(self) -> None:
        """Draw the random part; never before a fork."""
        self._part = secrets.token_hex(6)
        self._numbers = count(1)

    def for_connection(self) -> str:
        """Return what the ids of a new connection's requests begin with; a number ends them."""
        return f"{self._part}-{next(self._numbers)}-"


def given_id(fields: Fields) -> str | None:
    """Return the id that the client has given; None if it has given none, or a bad one."""
    given = fields.get("x-request-id")
    return given if given is not None and SANE.fullmatch(given) else None


def without_id(question: bytes) -> Asked | None:
    """Take the line of the id out of a request's bytes; None if there is not exactly one good one.

    What is left is asked by every client in the same words, whatever id each request has.
    """
    match = _LINE.search(question)
    # The line has to be one of the head's: then what follows it ends as a head does.
    if match is None or not question.endswith(b"\r\n\r\n", match.end()):
        return None
    rest = question[: match.start()] + question[match.end() :]
    return None if has_id(rest) else Asked(rest, match[1].decode())


def has_id(question: bytes) -> bool:
    """Tell whether an id, good or bad, may be among these bytes of a request."""
    return b"x-request-id" in question.lower()


@coroutine
def apart(work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Do `work` in a context of its own (contextvars); the loop has one for all coroutines.

    So that every line that is logged on its way, in the pool too, can name the request.
    """
    context = copy_context()
    step, value = work.send, None
    while True:
        try:
            trap = context.run(step, value)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            value = yield trap
            step = work.send
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # what the loop throws in is for the work
            step, value = work.throw, error
