"""Small answers that are given again to the same question, without finding them anew.

The question is a whole request, byte for byte: the same client asks in the same words, and what is
parsed from the same bytes is the same. Content under its hash never changes, so the answer lasts
until the content is deleted, which `Response.lasts` tells. Measured: a GET of 4 KiB takes 38 µs of
CPU instead of 180; nginx beside it takes 36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from httpd.protocol.forwarded import Forwarding, forwarding_of
from httpd.server.request_id import FIELD, has_id, without_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpd.exchange import Fields, Response
    from httpd.server.traffic import Answered, Traffic

# Of a worker's memory. A thousand files of 4 KiB fit in.
MOST_BYTES = 8 * 1024 * 1024
# Longer questions come from browsers with cookies, each its own.
LONGEST_QUESTION = 1024
_DATE = b"\r\nDate: "
_DATE_BYTES = 29  # of the value, always (RFC 9110 section 5.6.7)
# The field behind the date, so that what changes is in one piece.
_BETWEEN = f"\r\n{FIELD}: "
# Content that somebody removes from the store by hand, past the daemon, is served for so long.
SECONDS = 10.0


class Recalled(NamedTuple):
    """An answer: all of its bytes but the date and the request's id, which are always others."""

    before: bytes  # up to the value of the Date field
    after: bytes
    answered: Answered  # where it is counted each time
    described: str  # how the log describes it
    forwarding: Forwarding
    lasts: Callable[[], bool]
    until: float  # on the loop's clock
    closes: bool  # the connection, after it

    def at(self, date: str, request_id: str) -> bytes:
        """Return the bytes to send at that date, to a request of that id."""
        return self.before + f"{date}{_BETWEEN}{request_id}".encode() + self.after


class Recall:
    """The answers that a worker remembers, the oldest forgotten first."""

    def __init__(self, traffic: Traffic, most_bytes: int = MOST_BYTES) -> None:
        """Take where answers are counted, and the most bytes of questions and answers to hold."""
        self._traffic = traffic
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: dict[bytes, Recalled] = {}

    def find(self, question: bytes, now: float) -> Recalled | None:
        """Return what the question was answered with, if that is true still.

        The question is without the line of an id, see `without_id`.
        """
        answer = self._answers.get(question)
        if answer is None:
            return None
        if now < answer.until and answer.lasts():
            return answer
        self._forget(question)
        return None

    def keep(
        self,
        question: bytes,
        fields: Fields,
        described: str,
        lead: bytes,
        response: Response,
        now: float,
        *,
        closes: bool,
    ) -> None:
        """Remember what a request was answered with, if that may be said again.

        `question`: the bytes of the request, where they are all of it and nothing else; `fields`:
        those in it; `described`: how the log describes it; `lead`: the response's head as it was
        sent; `closes`: whether the client is told there that nothing follows, as it has asked for.
        """
        content = response.content
        if response.lasts is None or not isinstance(content, bytes) or not _is_whole(question):
            return
        asked = without_id(question)
        if asked is not None:
            question = asked.question
        elif has_id(question):
            return  # none that may be taken out, so these bytes may never come again
        start = lead.index(_DATE) + len(_DATE)
        behind = lead.index(b"\r\n", start + _DATE_BYTES + len(_BETWEEN))
        answer = Recalled(
            lead[:start],
            lead[behind:] + content,
            self._traffic.answered("GET", response.status),
            described,
            forwarding_of(fields),
            response.lasts,
            now + SECONDS,
            closes,
        )
        self._forget(question)
        self._bytes += _weight(question, answer)
        self._answers[question] = answer
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, question: bytes) -> None:
        answer = self._answers.pop(question, None)
        if answer is not None:
            self._bytes -= _weight(question, answer)


def _weight(question: bytes, answer: Recalled) -> int:
    return len(question) + len(answer.before) + len(answer.after)


def _is_whole(question: bytes) -> bool:
    """Tell whether the bytes begin with a request and end with a head.

    Then, if a parser has found one request in them and nothing behind it, they are that request:
    nothing that was received before or after them can have been part of it.
    """
    return (
        len(question) <= LONGEST_QUESTION
        and question.startswith(b"GET ")
        and question.endswith(b"\r\n\r\n")
    )
