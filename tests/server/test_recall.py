"""Answers that are given again: only to the very same bytes, and only for as long as they last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from httpd.exchange import Fields, Request, Response, Span
from httpd.server.loop import Loop
from httpd.server.recall import ADMITTED, LONGEST_QUESTION, SECONDS, Recall
from httpd.server.traffic import Traffic
from tests.daemons import until
from tests.served import Client, Served, listen_unix, request
from tests.server.conftest import Serve


class Counter:
    """A handler whose answers count the calls, and last while `lasting` is true."""

    def __init__(self) -> None:
        self.calls = 0
        self.lasting = True

    async def __call__(self, request: Request) -> Response:
        self.calls += 1
        content = f"{request.path} {self.calls}".encode()
        return Response(200, [("ETag", '"1"')], content, lasts=lambda: self.lasting)


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_the_same_question_is_answered_without_asking_the_application(
    serve: Serve, counter: Counter
) -> None:
    served = serve(counter)
    first = served.connect().ask(request("/a"))
    for client in served.connect(), served.connect():
        again = client.ask(request("/a"))
        assert (again.status, again.content) == (200, b"/a 1")
        assert again.fields.keys() == first.fields.keys()
    served.catch_up()
    assert counter.calls == 1
    assert [line.split('"')[1] for line in served.lines] == ["GET /a HTTP/1.1"] * 3


def test_an_answer_that_no_longer_lasts_is_found_anew(serve: Serve, counter: Counter) -> None:
    served = serve(counter)
    client = served.connect()
    assert client.ask(request("/a")).content == b"/a 1"
    counter.lasting = False
    assert client.ask(request("/a")).content == b"/a 2"


def sent_twice(client: Client, data: bytes) -> None:
    for _ in range(2):
        client.ask(data)


def in_two_parts(client: Client, data: bytes, at: int, served: Served) -> None:
    for _ in range(2):
        client.send(data[:at])
        served.catch_up()
        client.send(data[at:])
        client.read_reply()


# what is sent twice, and differs from the whole of one plain GET
OTHERS: dict[str, bytes] = {
    "with content": request("/a", "Content-Length: 2") + b"hi",
    "another method": request("/a", method="DELETE"),
    "a long question": request("/a", f"X: {'x' * LONGEST_QUESTION}"),
    "empty lines before": b"\r\n" + request("/a"),
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_any_other_request_is_asked_anew(serve: Serve, counter: Counter, data: bytes) -> None:
    sent_twice(serve(counter).connect(), data)
    assert counter.calls == 2


def test_a_request_in_parts_is_never_taken_for_a_whole(serve: Serve, counter: Counter) -> None:
    served = serve(counter)
    data = request("/a")
    client = served.connect()
    for at in range(1, len(data)):
        in_two_parts(client, data, at, served)
    assert counter.calls == 2 * (len(data) - 1)


def test_pipelined_requests_are_all_answered(serve: Serve, counter: Counter) -> None:
    client = serve(counter).connect()
    client.ask(request("/a"))
    client.send(request("/a") + request("/b"))
    assert [client.read_reply().content for _ in range(2)] == [b"/a 2", b"/b 3"]


def test_what_is_pipelined_behind_another_is_repeated_once(serve: Serve, counter: Counter) -> None:
    client = serve(counter).connect()
    for path in "/a", "/b":
        client.ask(request(path))
    client.send(request("/a") + request("/b"))
    assert [client.read_reply().content for _ in range(2)] == [b"/a 3", b"/b 2"]
    assert client.ask(request("/c")).content == b"/c 4"


def test_who_has_left_is_logged_with_nothing_sent(
    serve: Serve, counter: Counter, tmp_path: Path
) -> None:
    served = serve(counter, listener=listen_unix(tmp_path / "socket"))
    client = served.connect()
    for _ in range(2):
        client.ask(request("/a"))
    served.call(lambda: (client.send(request("/a")), client.close()))
    served.until_alone()
    served.catch_up()
    assert [line.split('"')[2] for line in served.lines] == [" 200 4 ", " 200 4 ", " 200 0 "]


def test_an_answer_that_closes_is_repeated_and_closes(serve: Serve, counter: Counter) -> None:
    served = serve(counter)
    for _ in range(3):
        client = served.connect()
        reply = client.ask(request("/a", "Connection: close"))
        assert (reply.content, reply.closes) == (b"/a 1", True)
        assert client.closed_by_server()
    assert not served.connect().ask(request("/a")).closes


def test_what_a_drain_closes_is_not_repeated(serve: Serve, counter: Counter) -> None:
    served = serve(counter, "--max-requests=1")
    for call in 1, 2:
        reply = served.connect().ask(request("/a"))
        assert (reply.content, reply.closes) == (f"/a {call}".encode(), True)


def test_a_drain_is_announced_in_the_next_answer(serve: Serve, counter: Counter) -> None:
    served = serve(counter)
    client = served.connect()
    client.ask(request("/a"))
    served.call(lambda: served.server.drain(now=False))
    reply = client.ask(request("/a"))
    assert (reply.content, reply.closes) == (b"/a 2", True)


class Reopened:
    """A handler whose answers give their content again; counts how often it did what."""

    def __init__(self, content: bytes | tuple[Span]) -> None:
        self.content = content
        self.calls = self.opened = self.released = 0
        self.gone = False

    async def __call__(self, _request: Request) -> Response:
        self.calls += 1
        response = self.response()
        response.lasts = lambda: True
        response.again = self.again
        return response

    def again(self) -> Response | None:
        self.opened += 1
        return None if self.gone else self.response()

    def response(self) -> Response:
        return Response(200, [("ETag", '"1"')], self.content, self.release)

    def release(self) -> None:
        self.released += 1


SIZE = 3 << 20


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    with path.open("rb") as file:
        yield file


def test_what_is_asked_for_once_more_is_remembered_with_its_content(serve: Serve) -> None:
    handler = Reopened(b"content")
    served = serve(handler)
    client = served.connect()
    for opened in 0, 1, 1, 1:
        assert client.ask(request()).content == b"content"
        assert (handler.calls, handler.opened) == (1, opened)
    served.catch_up()
    assert [line.split('"')[2] for line in served.lines] == [" 200 7 "] * 4
    assert handler.released == 2


def test_a_file_is_opened_anew_each_time(serve: Serve, file: BinaryIO) -> None:
    handler = Reopened((Span(file, 0, SIZE),))
    served = serve(handler)
    client = served.connect()
    first = client.ask(request())
    for opened in 1, 2, 3:
        again = client.ask(request())
        assert again.content == first.content
        assert again.fields.keys() == first.fields.keys()
        assert (handler.calls, handler.opened) == (1, opened)
    served.catch_up()
    assert handler.released == 4


@pytest.mark.parametrize("shape", ["bytes", "file"])
def test_where_it_cannot_be_opened_the_application_is_asked(
    serve: Serve, file: BinaryIO, shape: str
) -> None:
    handler = Reopened(b"content" if shape == "bytes" else (Span(file, 0, SIZE),))
    client = serve(handler).connect()
    client.ask(request())
    handler.gone = True
    for calls in 2, 3:
        assert client.ask(request()).status == 200
        assert handler.calls == calls


def test_an_id_is_told_in_an_answer_that_is_opened_anew(serve: Serve, file: BinaryIO) -> None:
    handler = Reopened((Span(file, 0, 10),))
    served = serve(handler)
    client = served.connect()
    for name in "abc":
        assert client.ask(request("/", f"X-Request-Id: {name}")).fields["x-request-id"] == name
    assert client.ask(request("/")).content == bytes(10)
    handler.gone = True
    assert client.ask(request("/", "X-Request-Id: d")).fields["x-request-id"] == "d"
    served.catch_up()
    assert [line.split()[-1] for line in served.lines if line.split()[-1] in "abcd"] == [*"abcd"]
    assert handler.calls == 2


def test_what_is_opened_anew_closes_as_before(serve: Serve, file: BinaryIO) -> None:
    handler = Reopened((Span(file, 0, SIZE),))
    served = serve(handler)
    for _ in range(3):
        client = served.connect()
        assert client.ask(request("/", "Connection: close")).closes
        assert client.closed_by_server()
    assert handler.calls == 1


def test_what_a_client_reads_slowly_comes_whole(serve: Serve) -> None:
    content = bytes(range(256)) * (SIZE // 256)
    served = serve(Reopened(content))
    for _ in range(3):
        client = served.connect(receive_buffer=4096)
        client.send(request())
        until(lambda: "sending" in [each.state for each in served.server.connections])
        assert client.read_reply().content == content
        assert client.ask(request("/other")).content == content
    served.catch_up()
    assert [line.split('"')[2] for line in served.lines] == [f" 200 {SIZE} "] * 6


def test_every_repeated_answer_has_its_id_and_counts(serve: Serve, counter: Counter) -> None:
    served = serve(counter, "--max-requests=4")
    served.connect().ask(request("/a"))
    client = served.connect()
    replies = [client.ask(request("/a")) for _ in range(4)]
    assert [reply.closes for reply in replies] == [False, False, False, True]
    assert [reply.content for reply in replies] == [b"/a 1", b"/a 1", b"/a 1", b"/a 2"]
    assert len({reply.fields["x-request-id"] for reply in replies}) == 4
    assert client.closed_by_server()


@pytest.mark.parametrize("remembered", ["the head", "all of it"])
@pytest.mark.parametrize("kind", ["a file", "bytes"])
def test_who_leaves_in_the_middle_is_logged_with_what_was_sent(
    kind: str, remembered: str, serve: Serve, file: BinaryIO
) -> None:
    handler = Reopened((Span(file, 0, SIZE),) if kind == "a file" else bytes(SIZE))
    served = serve(handler)
    for _ in range(1 + (remembered == "all of it")):
        first = served.connect()
        first.ask(request("/a", "Referer: r"))
        first.close()
    client = served.connect(receive_buffer=4096)
    client.send(request("/a", "Referer: r"))
    client.read(1000)
    client.abort()
    served.until_alone()
    served.catch_up()
    _, asked, told, referer, *_ = served.lines[-1].split('"')
    status, size = told.split()
    assert (asked, status, referer) == ("GET /a HTTP/1.1", "200", "r")
    assert 0 < int(size) < SIZE
    assert handler.calls == 1
    assert handler.released == handler.calls + handler.opened


DATE = b"Mon, 23 Nov 2026 07:20:11 GMT"
LEAD = b"HTTP/1.1 200 OK\r\nDate: %b\r\nX-Request-Id: a-1\r\nServer: s\r\n\r\n" % DATE


@pytest.fixture
def recall(loop: Loop) -> Recall:
    return Recall(Traffic(loop, ()), most_bytes=1000, most_heads=3)


def keep(recall: Recall, question: bytes, size: int, lasts: Callable[[], bool]) -> None:
    response = Response(200, [], bytes(size), lasts=lasts)
    recall.keep(question, Fields(), "", LEAD, response, 0.0, closes=False)


def question(number: int) -> bytes:
    return b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number


def test_the_oldest_is_forgotten_where_room_is_short(recall: Recall) -> None:
    for number in range(3):
        keep(recall, question(number), 300, lambda: True)
    found = [recall.find(question(number), 0.0) is not None for number in range(3)]
    assert found == [False, True, True]
    keep(recall, question(3), 2000, lambda: True)
    assert all(recall.find(question(number), 0.0) is None for number in range(4))


def test_every_answer_is_found_anew_now_and_then(recall: Recall) -> None:
    keep(recall, question(1), 1, lambda: True)
    assert recall.find(question(1), SECONDS - 1) is not None
    assert recall.find(question(1), SECONDS) is None


def test_date_and_id_are_those_of_the_present_request(recall: Recall) -> None:
    keep(recall, question(1), 2, lambda: True)
    answer = recall.find(question(1), 0.0)
    assert answer is not None
    sent = answer.at("Tue, 24 Nov 2026 00:00:00 GMT", "bcd-17")
    lead = LEAD.replace(DATE, b"Tue, 24 Nov 2026 00:00:00 GMT")
    assert sent == lead.replace(b"a-1", b"bcd-17") + b"\0\0"


def keep_head(recall: Recall, question: bytes, now: float = 0.0) -> None:
    response = Response(200, [], b"x", lasts=lambda: True, again=lambda: None)
    recall.keep(question, Fields(), "", LEAD, response, now, closes=False)


def test_heads_have_room_of_their_own(recall: Recall) -> None:
    for number in 1, 2, 3:
        keep_head(recall, question(number))
    for number in range(10, 14):
        keep(recall, question(number), 300, lambda: True)
    assert all(recall.find(question(number), 0.0) is not None for number in (1, 2, 3))


def test_where_there_are_as_many_few_put_others_out(recall: Recall) -> None:
    for number in 1, 2, 3:
        keep_head(recall, question(number))
    asked = 0
    while recall.find(question(4), 0.0) is None:
        assert all(recall.find(question(number), 0.0) is not None for number in (1, 2, 3))
        keep_head(recall, question(4))
        asked += 1
    assert asked == ADMITTED
    found = [recall.find(question(number), 0.0) is not None for number in (1, 2, 3)]
    assert found == [False, True, True]


def test_of_an_answer_that_finds_no_room_the_head_is_left(recall: Recall) -> None:
    keep_head(recall, question(1))
    head = recall.find(question(1), 0.0)
    assert head is not None
    assert head.again is not None
    recall.complete(question(1), head, bytes(300), 0.0)
    whole = recall.find(question(1), 0.0)
    assert whole is not None
    assert whole.again is None
    assert whole.after == head.after + bytes(300)
    for number in 2, 3:
        keep(recall, question(number), 300, lambda: True)
    assert recall.find(question(1), 0.0) == head
    recall.forget(question(1))
    assert recall.find(question(1), 0.0) is None


def test_what_is_completed_twice_counts_once(recall: Recall) -> None:
    """Two clients may ask for the same at the same time."""
    keep_head(recall, question(1))
    head = recall.find(question(1), 0.0)
    assert head is not None
    for _ in range(5):
        recall.complete(question(1), head, bytes(200), 0.0)
    keep(recall, question(2), 300, lambda: True)
    assert all(recall.find(question(number), 0.0) is not None for number in (1, 2))


def test_where_room_is_short_few_put_others_out(recall: Recall) -> None:
    for number in 1, 2:
        keep(recall, question(number), 300, lambda: True)
    keep_head(recall, question(3))
    head = recall.find(question(3), 0.0)
    assert head is not None
    asked = 0
    while recall.find(question(3), 0.0) is head:
        assert recall.find(question(1), 0.0) is not None
        recall.complete(question(3), head, bytes(300), 0.0)
        asked += 1
    assert asked == ADMITTED
    assert recall.find(question(1), 0.0) is None


def test_what_is_past_its_time_makes_room_at_once(recall: Recall) -> None:
    for number in 1, 2, 3:
        keep_head(recall, question(number))
        keep(recall, question(10 + number), 300, lambda: True)
    for number in 4, 5, 6:
        keep_head(recall, question(number), SECONDS)
        head = recall.find(question(number), SECONDS)
        assert head is not None
        recall.complete(question(number), head, bytes(200), SECONDS)
        whole = recall.find(question(number), SECONDS)
        assert whole is not None
        assert whole.again is None
