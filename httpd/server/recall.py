"""Answers that are given again to the same question, without finding them anew.

The question is a whole request, byte for byte: the same client asks in the same words, and what is
parsed from the same bytes is the same. Content under its hash never changes, so the answer lasts
until the content is deleted, which `Response.lasts` tells.

Of an answer the head is remembered, and its content is opened anew; what is small and asked for
again is remembered with its content. Measured, CPU for a GET of 4 KiB: 27 to 35 µs, by its head
alone 53 to 87, and 250 where nothing is remembered; nginx beside it takes 31 to 40.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from httpd.exchange import Response
from httpd.protocol.forwarded import Forwarding, forwarding_of
from httpd.server.request_id import FIELD, has_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpd.exchange import Fields
    from httpd.server.traffic import Answered, Traffic

# Of a worker's memory, for answers with their content. A thousand files of 4 KiB fit in.
MOST_BYTES = 8 * 1024 * 1024
# For heads alone. One takes 2 KiB with its question and all that Python adds, all of them 16 MiB.
MOST_HEADS = 8192
# Where there is no room, one of so many new answers takes that of the oldest. Measured, files by
# turns: 88 µs for 5,000 and 116 for 10,000; where each new one takes it, 113 and 281.
ADMITTED = 8
# Longer questions come from browsers with cookies, each its own.
LONGEST_QUESTION = 1024
_DATE = b"\r\nDate: "
_DATE_BYTES = 29  # of the value, always (RFC 9110 section 5.6.7)
# The field behind the date, so that what changes is in one piece.
_BETWEEN = f"\r\n{FIELD}: "
NO_MORE = Response(200)  # with no content: an answer that is remembered whole has it already
# Content that somebody removes from the store by hand, past the daemon, is served for so long.
SECONDS = 10.0


class Recalled(NamedTuple):
    """An answer: all of its bytes but the date and the request's id, which are always others."""

    before: bytes  # up to the value of the Date field
    after: bytes
    held: int  # bytes of content at the end of that
    status: int
    answered: Answered  # where it is counted each time
    described: str  # how the log describes it
    forwarding: Forwarding
    lasts: Callable[[], bool]
    again: Callable[[], Response | None] | None  # `Response.again`; None where `after` has all
    until: float  # on the loop's clock
    closes: bool  # the connection, after it

    def at(self, date: str, request_id: str) -> bytes:
        """Return the bytes to send at that date, to a request of that id."""
        return self.before + f"{date}{_BETWEEN}{request_id}".encode() + self.after

    def more(self) -> Response | None:
        """Return what has the content that belongs behind that; None where it cannot be had."""
        return NO_MORE if self.again is None else self.again()


class Recall:
    """The answers that a worker remembers, the oldest forgotten first."""

    def __init__(
        self, traffic: Traffic, most_bytes: int = MOST_BYTES, most_heads: int = MOST_HEADS
    ) -> None:
        """Take where answers are counted, and the most bytes and heads to hold."""
        self._traffic = traffic
        self._most_bytes = most_bytes
        self._most_heads = most_heads
        self._bytes = 0
        # Not plain ones: to find the first of those takes the longer, the more were removed there.
        self._whole: OrderedDict[bytes, Recalled] = OrderedDict()
        self._heads: OrderedDict[bytes, Recalled] = OrderedDict()  # of some in `_whole`, too
        self._asked = 0  # how often room was asked for where there was none

    def find(self, question: bytes, now: float) -> Recalled | None:
        """Return what the question was answered with, if that is true still.

        The question is without the line of an id, see `without_id`.
        """
        answer = self._whole.get(question) or self._heads.get(question)
        if answer is None:
            return None
        if now < answer.until and answer.lasts():
            return answer
        self.forget(question)
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

        `question`: the bytes of the request without the line of an id, where they are all of it and
        nothing else; `fields`: those in it; `described`: how the log describes it; `lead`: the
        response's head as it was sent; `closes`: whether the client is told there that nothing
        follows, as it has asked for.
        """
        content = b"" if response.again is not None else response.content
        if response.lasts is None or not isinstance(content, bytes) or not _is_whole(question):
            return
        if has_id(question):
            return  # one that could not be taken out, so these bytes may never come again
        start = lead.index(_DATE) + len(_DATE)
        behind = lead.index(b"\r\n", start + _DATE_BYTES + len(_BETWEEN))
        answer = Recalled(
            lead[:start],
            lead[behind:] + content,
            len(content),
            response.status,
            self._traffic.answered("GET", response.status),
            described,
            fields.once(forwarding_of),
            response.lasts,
            response.again,
            now + SECONDS,
            closes,
        )
        self.forget(question)
        if answer.again is None:
            self._keep_whole(question, answer)
            return
        if len(self._heads) < self._most_heads:
            self._heads[question] = answer
        elif self._makes_room(self._heads, now):
            self._heads.popitem(last=False)
            self._heads[question] = answer

    def complete(self, question: bytes, answer: Recalled, content: bytes, now: float) -> None:
        """Remember the content of an answer as well, as it was asked for once more."""
        has_room = self._bytes + len(content) <= self._most_bytes
        if has_room or self._makes_room(self._whole, now):
            self._forget_whole(question)
            after, held = answer.after + content, len(content)
            self._keep_whole(question, answer._replace(after=after, held=held, again=None))

    def forget(self, question: bytes) -> None:
        """Remember nothing of what the question was answered with."""
        self._heads.pop(question, None)
        self._forget_whole(question)

    def _makes_room(self, answers: OrderedDict[bytes, Recalled], now: float) -> bool:
        """Tell whether the oldest answer is to be forgotten for a new one.

        It is if its time is over; of others, at one in so many times.
        Who is asked for often comes in soon all the same. And what is asked for by turns, and is
        more than there is room for, does not put each other out before it is asked for again.
        """
        if not answers or next(iter(answers.values())).until <= now:
            return True
        self._asked = (self._asked + 1) % ADMITTED
        return not self._asked

    def _keep_whole(self, question: bytes, answer: Recalled) -> None:
        self._bytes += _weight(question, answer)
        self._whole[question] = answer
        while self._bytes > self._most_bytes:
            oldest, answer = self._whole.popitem(last=False)
            self._bytes -= _weight(oldest, answer)

    def _forget_whole(self, question: bytes) -> None:
        answer = self._whole.pop(question, None)
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
