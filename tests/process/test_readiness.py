from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from httpd.process import readiness
from httpd.process.readiness import NotReady, Pipe, wait

PATIENCE = 20  # seconds; only a test that fails waits so long


def answer(tell: Callable[[Pipe], None], timeout: float = PATIENCE) -> int:
    """Let somebody tell, and return what the launcher understands."""
    reader, writer = os.pipe()
    pipe = Pipe(writer)
    try:
        tell(pipe)
        return wait(reader, timeout)
    finally:
        pipe.close()
        os.close(reader)


def test_ready_tells_the_pid() -> None:
    assert answer(Pipe.ready) == os.getpid()


@pytest.mark.parametrize("told", ["no room", "ready-made: ü", "x" * 4096])
def test_failure_tells_the_reason(told: str) -> None:
    with pytest.raises(NotReady) as caught:
        answer(lambda pipe: pipe.failed(told))
    assert str(caught.value) == told


def test_long_reason_is_cut() -> None:
    with pytest.raises(NotReady, match=r"^x{4096}$"):
        answer(lambda pipe: pipe.failed("x" * 100_000))


def test_death_without_a_word() -> None:
    with pytest.raises(NotReady, match="it died while it was starting"):
        answer(Pipe.close)


def test_silence() -> None:
    with pytest.raises(NotReady, match="no answer within 0 s"):
        answer(lambda _: None, timeout=0.01)


def test_who_goes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time nearly the whole patience passes; the clock is the test's."""
    clock = [0.0]
    reader, writer = os.pipe()
    pipe = Pipe(writer)
    words = [pipe.goes_on, pipe.goes_on, pipe.goes_on, pipe.ready]

    def listen(
        readers: list[int], _writers: list[int], _others: list[int], timeout: float
    ) -> tuple[list[int], list[int], list[int]]:
        if words:
            clock[0] += 0.9 * PATIENCE
            if timeout < 0.9 * PATIENCE:
                return [], [], []
            words.pop(0)()
        return readers, [], []

    monkeypatch.setattr(readiness, "select", listen)
    monkeypatch.setattr(readiness.time, "monotonic", lambda: clock[0])
    assert wait(reader, PATIENCE) == os.getpid()
    os.close(reader)


def test_an_answer_may_come_together_with_what_was_before_it() -> None:
    def tell(pipe: Pipe) -> None:
        pipe.goes_on()
        pipe.goes_on()
        pipe.failed("no room")
        pipe.goes_on()

    with pytest.raises(NotReady, match=r"^no room$"):
        answer(tell)


def test_only_the_first_word_counts() -> None:
    def tell(pipe: Pipe) -> None:
        pipe.ready()
        pipe.failed("later")
        pipe.close()

    assert answer(tell) == os.getpid()


def test_launcher_that_is_gone_harms_nobody() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = Pipe(writer)
    pipe.goes_on()
    pipe.ready()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)  # and it is closed
