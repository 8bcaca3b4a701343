"""The order of operations, read off traces of the real system calls."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from httpd.storage.staging import FLUSH_EVERY
from tests.crash import strace
from tests.crash.clients import KIB, MIB
from tests.crash.operations import SMALL, Contents, Operation, clear, operations
from tests.crash.order import JOURNALED, NEW, Step, about, broken, steps_of
from tests.crash.scenes import SCENES, Scene
from tests.crash.stand import Stand
from tests.crash.tally import ORDERS, tally

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A daemon of one worker that has made its catalog already."""
    folder = tmp_path_factory.mktemp("order")
    stand = Stand(folder, folder / "store", "--workers=1")
    try:
        stand.start()
        with closing(stand.caller()) as caller:
            assert caller.ask("POST", "/files/a.txt", b"first").status == 201
        yield stand
    finally:
        stand.close()


def trace(stand: Stand, operation: Operation, content: bytes, log: Path) -> list[Step]:
    """Carry an operation out under strace, and return its steps."""
    with closing(stand.caller()) as caller:
        if not operation.size:
            clear(stand, caller, content)
        ready = operation.get_ready(stand, caller, content)
        (worker,) = stand.workers()
        with strace.attached(worker, log=log):
            assert ready.ask(caller).status == ready.status
            strace.wait_for_answers(log, 1)
    return steps_of(strace.read(log), stand.store)


@pytest.mark.parametrize("operation", operations(), ids=lambda each: each.title)
def test_order_of_operations(operation: Operation, stand: Stand, tmp_path: Path) -> None:
    content = Contents(operation.title).fresh(operation.size)
    steps = trace(stand, operation, content, tmp_path / "trace")
    assert broken(steps, operation.needed) == [], "\n".join(map(str, steps))
    tally[ORDERS] += 1


def test_big_content_is_flushed_while_it_comes(stand: Stand, tmp_path: Path) -> None:
    (big,) = (each for each in operations("17 MiB") if each.title == "store by hash, 17 MiB")
    # A flush goes on beside the writes, and is waited for when the next one is due.
    content = Contents("big").fresh(2 * FLUSH_EVERY + 8 * MIB)
    steps = trace(stand, big, content, tmp_path / "trace")
    last = max(step.begun for step in steps if step.word == "write content")
    assert any(step.word == "flush content" and step.ended < last for step in steps)


def test_order_under_concurrency(stand: Stand, tmp_path: Path) -> None:
    # Of one byte again and again, since strace shows a journal's batch in full.
    contents = [bytes([n]) * (4 + 22 * (n % 4)) * KIB for n in range(40)]

    def store(number: int) -> None:
        with closing(stand.caller()) as caller:
            for content in contents[number::8]:
                assert caller.ask("POST", "/", content).status == 200

    (worker,) = stand.workers()
    with (
        strace.attached(worker, f"-s{8 * MIB}", log=tmp_path / "trace"),
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(store, range(8)))
        strace.wait_for_answers(tmp_path / "trace", len(contents))
    steps = steps_of(strace.read(tmp_path / "trace"), stand.store)
    for content in contents:
        digest = stand.digest(content)
        own = about(steps, digest)
        needed = JOURNALED if len(content) <= SMALL else NEW
        assert broken(own, needed) == [], "\n".join(map(str, own))
        tally[ORDERS] += 1


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_order_in_a_scene(scene: Scene, tmp_path: Path) -> None:
    with closing(Stand(tmp_path, tmp_path / "store", "--workers=1", "--threads=1")) as stand:
        steps = scene.steps(stand, tmp_path / "trace")
    assert broken(steps, scene.needed) == [], "\n".join(map(str, steps))
    tally[ORDERS] += 1
