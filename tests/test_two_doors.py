"""Both front doors on the same few contents, from many clients at once, on two workers."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import pytest

from tests import raw
from tests.daemons import Daemon
from tests.kept import Kept, content_step, name_step
from tests.linearizability import Call, is_linearizable
from tests.service import Service, blobs_in


class Sample(NamedTuple):
    """Content that many clients store, fetch and delete at the same time."""

    content: bytes
    digest: str

    @classmethod
    def of(cls, content: bytes) -> Sample:
        return cls(content, hashlib.md5(content).hexdigest())


# ---- what may be seen


ABOUT_CONTENT = {"store by hash", "store by id", "get by hash", "delete by hash", "delete by id"}


def explain(calls: list[Call]) -> str | None:
    """Say what cannot be explained in the calls about one content; None if all can be.

    A content and a name are two things: a DELETE by id takes the name away first, so that the id is
    unknown a moment before the content is.
    """
    about_content = [
        call for call in calls if call.action in ABOUT_CONTENT and not _found_no_name(call)
    ]
    if not is_linearizable(about_content, Kept(), content_step):
        return "\n".join(map(str, sorted(about_content)))
    for file_id in {call.file_id for call in calls} - {""}:
        about_name = [call for call in calls if call.file_id == file_id]
        if not is_linearizable(about_name, False, name_step):
            return "\n".join(map(str, sorted(about_name)))
    return None


def _found_no_name(call: Call) -> bool:
    return call.action == "delete by id" and call.status == 404


def calls_of(
    *rows: tuple[float, float, str, int] | tuple[float, float, str, int, str],
) -> list[Call]:
    return [Call(*row) for row in rows]


HISTORIES = {
    "one after the other": (True, calls_of(
        (0, 1, "get by hash", 404), (2, 3, "store by hash", 200), (4, 5, "get by hash", 200),
        (6, 7, "delete by hash", 200), (8, 9, "get by hash", 404))),
    "an upload that is lost": (False, calls_of(
        (0, 1, "store by hash", 200), (2, 3, "get by hash", 404))),
    "an upload that is seen before it ends": (True, calls_of(
        (0, 5, "store by hash", 200), (1, 2, "get by hash", 200))),
    "an upload that is seen, and then is not": (False, calls_of(
        (0, 9, "store by hash", 200), (1, 2, "get by hash", 200), (3, 4, "get by hash", 404))),
    "a delete that undoes a later upload": (False, calls_of(
        (0, 1, "store by hash", 200), (2, 3, "delete by hash", 200),
        (4, 5, "store by hash", 200), (6, 7, "get by hash", 404))),
    "served after the delete": (False, calls_of(
        (0, 1, "store by hash", 200), (2, 3, "delete by hash", 200), (4, 5, "get by hash", 200))),
    "served while it is deleted": (True, calls_of(
        (0, 1, "store by hash", 200), (2, 5, "delete by hash", 200), (3, 4, "get by hash", 200))),
    "two deletes of one upload": (False, calls_of(
        (0, 1, "store by hash", 200),
        (2, 5, "delete by hash", 200), (3, 4, "delete by hash", 200))),
    "deleted by hash in spite of a name": (False, calls_of(
        (0, 1, "store by id", 201, "a"), (2, 3, "delete by hash", 200))),
    "refused without a name": (False, calls_of(
        (0, 1, "store by hash", 200), (2, 3, "delete by hash", 409))),
    "gone with its last name": (True, calls_of(
        (0, 1, "store by id", 201, "a"), (0, 2, "store by id", 201, "b"),
        (3, 4, "delete by id", 200, "a"), (5, 6, "get by hash", 200),
        (7, 8, "delete by id", 200, "b"), (9, 10, "get by hash", 404))),
    "stays after its last name": (False, calls_of(
        (0, 1, "store by id", 201, "a"), (3, 4, "delete by id", 200, "a"),
        (5, 6, "get by hash", 200))),
    "a name that comes back": (False, calls_of(
        (0, 1, "store by id", 201, "a"), (2, 3, "delete by id", 200, "a"),
        (4, 5, "get by id", 200, "a"))),
    "a name that is deleted twice": (False, calls_of(
        (0, 1, "store by id", 201, "a"), (2, 5, "delete by id", 200, "a"),
        (2, 5, "delete by id", 200, "a"))),
}  # fmt: skip


@pytest.mark.parametrize(("good", "calls"), HISTORIES.values(), ids=HISTORIES)
def test_what_is_told_of_a_history(good: bool, calls: list[Call]) -> None:  # noqa: FBT001
    assert (explain(calls) is None) == good


# ---- many clients at once

CLIENTS = 8
REQUESTS = 60  # of each client
SAMPLES = [Sample.of(b"small"), Sample.of(b""), Sample.of(bytes(range(256)) * 1500)]


class Client:
    """One of many: does what its dice say, and keeps what it has seen."""

    def __init__(
        self, daemon: Daemon, seed: str, weights: list[int], ids: dict[Sample, list[str]]
    ) -> None:
        self.service = Service(daemon)
        self.weights = weights  # how often it does what, in the order of its actions
        self.dice = random.Random(seed)
        self.ids = ids  # what all clients know of, newest last
        self.calls: dict[Sample, list[Call]] = {sample: [] for sample in SAMPLES}
        self.actions = [
            self.store_by_hash, self.store_by_id, self.offer_by_hash, self.offer_by_id,
            self.get_by_hash, self.get_by_id, self.delete_by_hash, self.delete_by_id,
        ]  # fmt: skip

    def run(self) -> dict[Sample, list[Call]]:
        with self.service:
            for _ in range(REQUESTS):
                if self.dice.random() < 0.3:
                    self.service.close()  # perhaps another worker takes the next connection
                [act] = self.dice.choices(self.actions, self.weights)
                act(self.dice.choice(SAMPLES))
        return self.calls

    def note(self, sample: Sample, begun: float, action: str, status: int, file_id: str) -> None:
        self.calls[sample].append(Call(begun, time.monotonic(), action, status, file_id))
        if action == "store by id":
            self.ids[sample].append(file_id)

    def ask(self, method: str, target: str, action: str, sample: Sample, file_id: str = "") -> None:
        begun = time.monotonic()
        data = sample.content if method == "POST" else None
        answer = self.service.request(method, target, data=data)
        if action == "store by id":
            file_id = answer.text
        self.note(sample, begun, action, answer.status_code, file_id)
        assert method != "GET" or answer.status_code != 200 or answer.content == sample.content

    def offer(self, path: str, action: str, sample: Sample) -> None:
        """Store content without sending it where it is there."""
        begun = time.monotonic()
        line = f"POST {path}?file_hash={sample.digest}"
        fields = ["Expect: 100-continue", "Connection: close"]
        fields.append(f"Content-Length: {len(sample.content)}")
        with self.service.daemon.connect() as client:
            client.sendall(raw.head(line, *fields))
            begin = client.recv(1 << 16)
            if begin == b"HTTP/1.1 100 Continue\r\n\r\n":
                answer = raw.ask(client, sample.content)
            else:
                answer = raw.answer_in(begin + raw.receive_all(client))
        file_id = answer.content.decode() if action == "store by id" else ""
        self.note(sample, begun, action, answer.status, file_id)

    def store_by_hash(self, sample: Sample) -> None:
        self.ask("POST", "/", "store by hash", sample)

    def store_by_id(self, sample: Sample) -> None:
        self.ask("POST", "/files/a.txt", "store by id", sample)

    def offer_by_hash(self, sample: Sample) -> None:
        self.offer("/", "store by hash", sample)

    def offer_by_id(self, sample: Sample) -> None:
        self.offer("/files/a.txt", "store by id", sample)

    def get_by_hash(self, sample: Sample) -> None:
        self.ask("GET", f"/?file_hash={sample.digest}", "get by hash", sample)

    def delete_by_hash(self, sample: Sample) -> None:
        self.ask("DELETE", f"/?file_hash={sample.digest}", "delete by hash", sample)

    def get_by_id(self, sample: Sample) -> None:
        self.with_an_id("GET", "get by id", sample)

    def delete_by_id(self, sample: Sample) -> None:
        self.with_an_id("DELETE", "delete by id", sample)

    def with_an_id(self, method: str, action: str, sample: Sample) -> None:
        if known := self.ids[sample][-3:]:
            file_id = self.dice.choice(known)
            self.ask(method, f"/files/{file_id}/", action, sample, file_id)
            if method == "DELETE" and self.dice.random() < 0.5:  # or ask for it some more
                with suppress(ValueError):
                    self.ids[sample].remove(file_id)


def delete_all(service: Service, ids: dict[Sample, list[str]]) -> None:
    """Delete whatever clients have left."""
    for sample, known in ids.items():
        for file_id in known:
            assert service.delete(f"/files/{file_id}/").status_code in (200, 404)
        assert service.delete(f"/?file_hash={sample.digest}").status_code in (200, 404)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("doors"))
    daemon.start()
    yield daemon
    daemon.end()


# Each mixture of requests comes by states that others hardly ever see.
MIXTURES = {
    "everything": [1, 1, 1, 1, 2, 2, 3, 3],
    "mostly by id": [0, 3, 0, 1, 4, 1, 1, 5],
    "mostly by hash": [3, 1, 1, 0, 4, 0, 5, 2],
    "offers": [0, 1, 3, 3, 3, 1, 4, 4],
    "names come and go": [1, 4, 0, 0, 3, 1, 0, 5],
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mixture", MIXTURES)
def test_many_clients_see_one_order_of_events(mixture: str, seed: int, running: Daemon) -> None:
    ids: dict[Sample, list[str]] = {sample: [] for sample in SAMPLES}
    clients = [
        Client(running, f"{seed} {number}", MIXTURES[mixture], ids) for number in range(CLIENTS)
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = list(pool.map(Client.run, clients))
    for sample in SAMPLES:
        calls = [call for each in seen for call in each[sample]]
        assert (unexplained := explain(calls)) is None, f"seed {seed}:\n{unexplained}"
    with Service(running) as service:
        delete_all(service, ids)
    assert (blobs_in(running.store), running.staged()) == (set(), [])
