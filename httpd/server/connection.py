"""One client's connection: receive a request, have it answered, send the response, again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from loguru import logger

from httpd import log
from httpd.exchange import Disconnected, Refusal, Request, Response
from httpd.protocol.forwarded import forwarding_of
from httpd.protocol.framing import framing_of
from httpd.protocol.head import take_head
from httpd.protocol.render import CONTINUE
from httpd.protocol.target import parse_target
from httpd.server import answers
from httpd.server.accesslog import GONE
from httpd.server.inbox import Inbox
from httpd.server.pace import Pace
from httpd.server.recall import LONGEST_QUESTION
from httpd.server.request_id import apart, given_id, without_id
from httpd.traps import DeadlineExpired

if TYPE_CHECKING:
    from httpd.config import Settings
    from httpd.protocol.head import Head, HeadLimits
    from httpd.server.accesslog import AccessLog
    from httpd.server.body import ReceivedBody
    from httpd.server.clients import Visitor
    from httpd.server.clock import Clock
    from httpd.server.loop import Loop, Task
    from httpd.server.recall import Recall, Recalled
    from httpd.server.transport import Transport

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# An unread body up to this size is read and dropped to keep the connection; a larger one closes it.
SKIP_BYTES = 64 * 1024


class Connection:
    """Serves the requests of one client, one after the other (pipelined ones too)."""

    __slots__ = (
        "_access", "_clock", "_closed", "_handle", "_id", "_idle", "_ids", "_inbox", "_last",
        "_leaving", "_limits", "_loop", "_proxied", "_question", "_recall", "_repeated", "_rest",
        "_sending", "_served", "_settings", "_traffic", "_transport", "_visitor", "draining",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        visitor: Visitor,
        handle: Handler,
        settings: Settings,
        limits: HeadLimits,
        loop: Loop,
        clock: Clock,
        access: AccessLog,
        recall: Recall,
        ids: str,
        closed: Callable[[Connection], None],
    ) -> None:
        """Take a transport, who is at its other end, and whom to tell of the connection's end.

        `ids` begins the ids of its requests.
        """
        self._transport = transport
        self._visitor = visitor
        self._proxied = visitor.proxied
        self._handle = handle
        self._settings = settings
        self._limits = limits
        self._loop = loop
        self._clock = clock
        self._access = access
        self._recall = recall
        self._ids = ids
        self._traffic = transport.traffic
        self._closed = closed
        self._inbox = Inbox(transport, loop, settings.buffer)
        # Of the present request: its id, and what it is remembered by, b"" where it is too long;
        # whether it was answered out of memory, and what of that has to be waited for.
        self._id = ""
        self._question = b""
        self._repeated = False
        self._rest: Awaitable[bool] | None = None
        self._served = 0  # requests so far
        self._last = settings.max_requests - 1  # how many there are before the last one; -1: any
        self._idle = False  # waits for the first byte of a request
        self._sending = False  # an answer is on its way
        self._leaving = False  # waits for no request any more
        # Announces with the next response that it is the last.
        self.draining = not visitor.admitted
        self.task: Task | None = None

    @property
    def state(self) -> str:
        """What happens now, one of metrics' STATES; to receive includes to work on it."""
        if self._idle:
            return "idle"
        return "sending" if self._sending else "receiving"

    async def serve(self) -> None:
        """Serve requests until either side has had enough."""
        try:
            while await self._serve_one():
                self._count()
        except (Disconnected, DeadlineExpired):
            pass  # there is nobody left to tell
        except MemoryError:
            logger.error("a connection is broken off: out of memory")
        finally:
            self._transport.close()
            self._visitor.depart()
            self._closed(self)

    def drain(self, *, now: bool) -> None:
        """Let the next response be the last one; `now` also ends the wait for a request."""
        self.draining = True
        # A response that is on its way has announced nothing: the wait after it is the one to end.
        self._leaving = self._leaving or now
        if self._leaving:
            self.leave()

    def idle_seconds(self) -> float:
        """Return for how long it has been waiting for a request; 0 while it serves one."""
        if not self._idle or self.task is None:
            return 0.0
        return self._loop.now - self.task.deadline + self._patience()

    def leave(self) -> None:
        """End the wait for a request, unless one has come by now."""
        if self._idle and self.task is not None:
            self._loop.hasten(self.task)

    async def _serve_one(self) -> bool:
        """Serve one request; tell whether another may follow on this connection."""
        buffer = self._inbox.buffer
        if buffer:  # sent along with the last request; a longer one is not looked for
            self._repeated = self._repeat(bytes(buffer[: LONGEST_QUESTION + 1]))
            if self._repeated:
                buffer.clear()
        elif not await self._await_request():
            return False
        if not self._repeated:
            return await apart(self._answer())
        rest, self._rest = self._rest, None
        return rest is None or await rest

    async def _await_request(self) -> bool:
        """Wait until a request begins, or is answered already; tell whether that has come."""
        # Who connects has mostly asked by the time it is accepted. Not to wait for what is there:
        # 130 µs of CPU for a GET over a new connection instead of 150.
        if self._served or self._take_up() is None:
            self._idle = True
            try:
                deadline = self._loop.now + self._patience()
                await self._transport.readable(deadline, self._at_once)
            except DeadlineExpired:
                # Its time is over, or a drain has ended it: then a request may have come this very
                # moment, and to close on it would lose it. So look once more.
                self._take_up()
            self._idle = False
        return self._repeated or bool(self._inbox.buffer)

    def _patience(self) -> float:
        """Return the seconds that the wait for a request may take."""
        if self._leaving:
            return 0
        return self._settings.idle_timeout if self._served else self._settings.head_timeout

    # A small file that is asked for often takes what follows here, and no coroutine.

    def _at_once(self) -> float | None:
        """Answer a request out of memory, for the loop (`traps.Attempt`).

        Measured, CPU for a GET of 4 KiB: 33 µs, where the coroutine is resumed for it 39.
        """
        data = self._take_up()
        if data is not None:
            if not self._repeated or self._rest is not None:
                return None
            self._count()
        return self._loop.now + self._patience()

    def _take_up(self) -> bytes | None:
        """Receive what has come, and answer it out of memory or else keep it."""
        data = self._transport.receive(self._inbox.size)
        self._repeated = False
        if data:
            self._repeated = self._repeat(data)
            if not self._repeated:
                self._inbox.add(data)
        return data

    def _repeat(self, question: bytes) -> bool:
        """Give the answer that the same question had before, see Recall; tell whether it has one.

        What has to be waited for is left in `_rest`.
        """
        if self._served == self._last:
            self.draining = True
        begun = self._loop.now
        self._id = f"{self._ids}{self._served}"
        answer = None
        if len(question) > LONGEST_QUESTION:  # to hash an upload takes 3 µs
            question = b""
        else:
            answer = self._recall.find(question, begun)
            if answer is None and (asked := without_id(question)) is not None:
                question, self._id = asked
                answer = self._recall.find(question, begun)
        self._question = question
        if answer is None or self.draining:
            return False
        if self._proxied:
            self._visitor.speak_for(answer.forwarding)
        more = answer.more() if self._visitor.admitted else None
        if more is None:
            return False
        lead = answer.at(self._clock.date, self._id)
        content = more.content
        if not isinstance(content, bytes):
            sending = self._transport.send_all(lead, more, self._sending_pace())
            self._rest = apart(self._repeat_rest(answer, sending, len(lead), begun, more.release))
            return True
        if answer.again is not None:
            self._recall.complete(question, answer, content, begun)
        data = lead + content
        if more.release is not None:
            more.release()
        try:
            sent = self._transport.send_some(data)
        except Disconnected:
            self._note_broken(answer, 0, begun)
            raise
        if sent < len(data):
            sending = self._transport.send(memoryview(data)[sent:], self._sending_pace())
            lacking = len(lead) - answer.held - sent  # of the head
            self._rest = apart(self._repeat_rest(answer, sending, lacking, begun))
            return True
        self._note_repeated(answer, begun)
        if answer.closes:
            self._rest = self._end()
        return True

    async def _repeat_rest(
        self,
        answer: Recalled,
        sending: Awaitable[None],
        lead: int,
        begun: float,
        release: Callable[[], None] | None = None,
    ) -> bool:
        """Wait until an answer is sent, and note it; tell as `_serve_one`.

        `lead`: the bytes of the head that are to be sent, less than 0 if some of the content was
        already; `release`: see Response.
        """
        before = self._transport.accepted
        log.request_id.set(self._id)
        self._sending = True
        try:
            await sending
            self._note_repeated(answer, begun)
        except BaseException:
            size = max(0, self._transport.accepted - before - lead)
            self._note_broken(answer, size, begun)
            raise
        finally:
            self._sending = False
            if release is not None:
                release()
        return not answer.closes or await self._end()

    def _count(self) -> None:
        """Count a request that is done with."""
        self._served += 1
        if self._proxied:
            self._visitor.finish()

    async def _answer(self) -> bool:
        """Receive a request and answer it; tell as `_serve_one`."""
        begun, question = self._loop.now, self._question
        log.request_id.set(self._id)
        head = body = None
        try:
            head = await self._inbox.head(self._limits, begun + self._settings.head_timeout)
            self._id = given_id(head.fields) or self._id
            log.request_id.set(self._id)
            if self._proxied:
                self._visitor.speak_for(forwarding_of(head.fields))
            framing = framing_of(head)
            body = self._inbox.body(framing, self._settings, self._ask_for_content)
            self._visitor.check()
            if self._inbox.buffer or not body.finished:
                question = b""  # it is not all of a request, or more than that
            request = self._request(head, body, expects_continue=framing.expects_continue)
            response = await self._handle(request)
        except Refusal as refusal:
            self.draining = self.draining or refusal.close
            response = answers.refused(refusal, head, self._id)
        except Disconnected:
            if head is not None:
                self._note(head, GONE, 0, begun)
            raise
        except MemoryError:
            logger.error("a request is refused: out of memory")
            self.draining = True  # what this connection holds is needed more elsewhere
            response = answers.refused(Refusal(503, "out of memory; try again"), head, self._id)
        except Exception:
            logger.exception("a request failed by an unexpected error")
            response = answers.refused(
                Refusal(500, "the server met an unexpected error"), head, self._id
            )
        return await self._finish(response, head, body, begun, question)

    async def _ask_for_content(self) -> None:
        await self._transport.send(CONTINUE, self._sending_pace())

    def _request(self, head: Head, body: ReceivedBody, *, expects_continue: bool) -> Request:
        path, query = parse_target(head.target)
        peer = self._visitor.name
        return Request(head.method, path, query, head.fields, body, peer, expects_continue)

    async def _finish(
        self,
        response: Response,
        head: Head | None,
        body: ReceivedBody | None,
        begun: float,
        question: bytes,
    ) -> bool:
        """Send the response, note it, and settle what is left of the request's body."""
        draining = self.draining
        keep = (
            not draining
            and head is not None
            and head.keeps_alive
            and body is not None
            and body.skippable(SKIP_BYTES)
        )
        lead, before = b"", self._transport.accepted
        self._sending = True
        try:
            lead = answers.lead(response, head, self._clock.date, self._id, keep=keep)
            bare = head is not None and head.method == "HEAD"  # RFC 9110 section 9.3.2
            told = Response(response.status) if bare else response
            await self._transport.send_all(lead, told, self._sending_pace())
        finally:
            self._sending = False
            size = max(0, self._transport.accepted - before - len(lead))
            described = self._note(head, response.status, size, begun)
            if response.release is not None:
                response.release()
        if head is not None and not draining and response.lasts is not None:
            closes = not head.keeps_alive
            self._recall.keep(
                question, head.fields, described, lead, response, begun, closes=closes
            )
        if keep and body is not None:
            return body.finished or await body.skip()
        return await self._end(sure=body is None or not body.finished)

    async def _end(self, *, sure: bool = False) -> bool:
        """Part with the client where it sends more, or is `sure` to; tell that nothing follows.

        To close on bytes that nobody has read resets the connection (RFC 9112 section 9.6).
        """
        if sure or self._inbox.buffer or self._inbox.take_in():
            await self._transport.linger()
        return False

    def _note(self, head: Head | None, status: int, size: int, begun: float) -> str:
        """Count and log an answer; return how the log describes it."""
        seconds = monotonic() - begun
        self._traffic.answered(head.method if head else "other", status).add(seconds)
        described = self._access.describe(head, status, size)
        self._access.add(self._visitor.name, described, seconds, self._id)
        return described

    def _note_repeated(self, answer: Recalled, begun: float) -> None:
        seconds = monotonic() - begun
        answer.answered.add(seconds)
        self._access.add(self._visitor.name, answer.described, seconds, self._id)

    def _note_broken(self, answer: Recalled, size: int, begun: float) -> None:
        """Note one that was not sent to its end, as its description in the log says it was."""
        self._note(take_head(bytearray(self._question), self._limits), answer.status, size, begun)

    def _sending_pace(self) -> Pace:
        return Pace(self._settings.send_timeout, self._settings.min_rate)
