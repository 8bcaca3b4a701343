"""The shared numbers: seats that processes take, and leave by dying."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from httpd.metrics import board as boards
from httpd.metrics.board import Board

GAUGE, COUNTER = 0, 1


@pytest.fixture
def board() -> Board:
    return Board(2, 3, [GAUGE])


@contextmanager
def process(work: Callable[[], object]) -> Iterator[int]:
    """Do it in a child, which then waits to be killed; give its pid when it is done."""
    done, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(tell, b".")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        assert os.read(done, 1) == b"."
        yield pid
    finally:
        os.close(done)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def count(board: Board, number: int) -> None:
    cells = board.join()
    assert cells is not None
    cells[GAUGE] += number
    cells[COUNTER] += number


def seen(board: Board) -> list[tuple[int, int, int]]:
    return [(seat.pid, seat.cells[GAUGE], seat.cells[COUNTER]) for seat in board.seats()]


def test_every_process_has_a_seat_of_its_own(board: Board) -> None:
    count(board, 1)
    with process(lambda: count(board, 2)) as first, process(lambda: count(board, 3)) as second:
        assert seen(board) == [(os.getpid(), 1, 1), (first, 2, 2), (second, 3, 3)]


def test_a_seat_outlives_who_sat_there_and_its_counters_go_on(board: Board) -> None:
    count(board, 1)
    with process(lambda: count(board, 2)):
        pass
    assert seen(board) == [(os.getpid(), 1, 1), (0, 2, 2)]
    with process(lambda: count(board, 5)) as successor:
        assert seen(board) == [(os.getpid(), 1, 1), (successor, 5, 7)]


def test_a_seat_in_the_middle_is_taken_again(board: Board) -> None:
    count(board, 1)
    with process(lambda: count(board, 2)):
        with process(lambda: count(board, 3)) as second:
            pass
        with process(lambda: count(board, 4)) as third:
            assert [pid for pid, *_ in seen(board)][2] == third != second


def test_a_full_board_has_no_seat(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "SEATS", 1)
    count(board, 1)
    with pytest.raises(AssertionError), process(lambda: count(board, 2)):
        pass
    assert seen(board) == [(os.getpid(), 1, 1)]


def test_one_at_a_time_is_alone(board: Board) -> None:
    other = board.alone()  # kept: it ends where nothing holds it
    with process(other.__enter__), board.alone() as alone:
        assert not alone
    with board.alone() as alone:  # the other has died at it
        assert alone


def test_the_head_is_everybodys(board: Board) -> None:
    def note() -> None:
        board.head[1] = 7

    with process(note):
        assert board.head.tolist() == [0, 7]
