from __future__ import annotations

import fcntl
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from httpd import log
from httpd.log import LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "a.log"


@pytest.fixture
def _sinks_are_closed() -> Iterator[None]:
    yield
    log.open_sinks(None, "CRITICAL")
    logger.remove()


def test_lines_are_appended(path: Path) -> None:
    for text in ("one\n", "two\nthree\n", "\udce4\n"):
        LogFile(path).write(text)
    assert path.read_text() == "one\ntwo\nthree\n\\udce4\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_batch_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, data: written.append(data) or len(data))
    LogFile(path).write("one\n" * 1000)
    assert written == [b"one\n" * 1000]


def move(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


def remove_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


@pytest.mark.parametrize("take_away", [Path.unlink, move, remove_folder])
def test_file_that_was_taken_away_is_made_anew(
    take_away: Callable[[Path], None], path: Path
) -> None:
    file = LogFile(path)
    file.write("one\n")
    take_away(path)
    file.write("two\n")
    assert path.read_text() == "two\n"


def test_a_file_that_was_put_in_its_place_is_written_on(path: Path) -> None:
    file = LogFile(path)
    file.write("one\n")
    path.rename(path.with_suffix(".old"))
    path.write_text("begun by another\n")
    file.write("two\n")
    assert path.read_text() == "begun by another\ntwo\n"


def test_reopen_opens_a_file_of_its_own(path: Path) -> None:
    file = LogFile(path)
    file.write("one\n")
    pid = os.fork()  # the child shares the open file, and with it what a lock belongs to
    if pid == 0:
        file.reopen()
        file.write("two\n")
        fcntl.flock(file._descriptor, fcntl.LOCK_EX)
        os._exit(0)
    os.waitpid(pid, 0)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if the child's lock were shared
    before = os.listdir("/proc/self/fd")
    file.reopen()
    file.write("three\n")
    assert os.listdir("/proc/self/fd") == before  # the first one is closed
    assert path.read_text() == "one\ntwo\nthree\n"


def test_rotation_keeps_the_youngest(path: Path) -> None:
    file = LogFile(path, limit=10, keep=3)
    for number in range(6):
        file.write(f"line {number}\n")  # 7 bytes: a second one would be too many
    contents = {name.name: name.read_text() for name in path.parent.iterdir()}
    assert contents == {
        "a.log": "line 5\n",
        "a.log.1": "line 4\n",
        "a.log.2": "line 3\n",
        "a.log.3": "line 2\n",
    }


def test_batch_above_the_limit_does_not_rotate_an_empty_file(path: Path) -> None:
    LogFile(path, limit=10).write("a line of more than ten bytes\n")
    assert [name.name for name in path.parent.iterdir()] == ["a.log"]


def test_nobody_waits_while_another_process_rotates(path: Path) -> None:
    file = LogFile(path, limit=10)
    file.write("line 0\n")
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        file.write("line 1\n")
    assert path.read_text() == "line 0\nline 1\n"
    file.write("line 2\n")
    assert path.read_text() == "line 2\n"


def test_rotation_that_fails_costs_no_line(path: Path) -> None:
    file = LogFile(path, limit=10, keep=1)
    path.with_name("a.log.1").mkdir(parents=True)
    path.with_name("a.log.1").joinpath("in the way").touch()
    file.write("line 0\n")
    file.write("line 1\n")
    assert path.read_text() == "line 0\nline 1\n"


def test_processes_that_rotate_at_once_lose_and_tear_nothing(path: Path) -> None:
    processes, lines = 4, 300
    start, go = os.pipe()
    children = []
    for name in range(processes):
        if (pid := os.fork()) == 0:
            os.close(go)
            os.read(start, 1)  # until the parent closes its end
            file = LogFile(path, limit=1000, keep=10_000)
            for number in range(lines):
                file.write(f"{name} {number:03} {'x' * 50}\n")
            os._exit(0)
        children.append(pid)
    os.close(start)
    os.close(go)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * processes
    files = list(path.parent.iterdir())
    found = [line for file in files for line in file.read_text().splitlines()]
    expected = [f"{n} {i:03} {'x' * 50}" for n in range(processes) for i in range(lines)]
    assert sorted(found) == expected
    # Not one file was rotated before it was full, as by two processes that both found it so.
    assert all(file.stat().st_size > 900 for file in files if file != path)


def test_full_disk_is_told_once_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    file = LogFile(Path("/dev/full"))
    file.write("one\n")
    file.write("two\n")
    reason = "[Errno 28] No space left on device"
    assert capfd.readouterr().err == f"filestored: /dev/full cannot be written: {reason}\n"


def test_lost_writes_are_told_when_the_folder_is_back(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path.parent.touch()  # a file where the folder should be
    file = LogFile(path)
    file.write("one\n")
    file.write("two\n")
    path.parent.unlink()
    file.write("three\n")
    file.write("four\n")
    assert path.read_text() == "(2 writes to this log were lost)\nthree\nfour\n"
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    file.write("five\n")
    assert capfd.readouterr().err.count("cannot be written") == 2


def test_line_cut_short_is_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = LogFile(path)
    file.write("x" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1003, hard))
    try:
        file.write("12345678\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "x" * 1000 + "123"
    assert "cut short" in capfd.readouterr().err


def test_symlink_is_not_followed(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path.parent.mkdir()
    path.symlink_to("target")
    LogFile(path).write("one\n")
    assert not (path.parent / "target").exists()
    assert "Too many levels of symbolic links" in capfd.readouterr().err


@pytest.mark.usefixtures("_sinks_are_closed")
@pytest.mark.parametrize(
    ("level", "logged", "access"),
    [
        ("TRACE", ["debug", "info", "error"], True),
        ("DEBUG", ["debug", "info", "error"], True),
        ("INFO", ["info", "error"], True),
        ("WARNING", ["error"], False),
        ("CRITICAL", [], False),
    ],
)
def test_level(level: str, logged: list[str], access: bool, tmp_path: Path) -> None:  # noqa: FBT001
    log.open_sinks(tmp_path, level)
    logger.debug("debug")
    logger.info("info")
    logger.error("error")
    file = tmp_path / "filestored.log"
    lines = file.read_text().splitlines() if file.exists() else []
    assert [line.split()[-1] for line in lines] == logged
    assert log.access_wanted() is access


@pytest.mark.usefixtures("_sinks_are_closed")
def test_line_has_time_level_process_and_message(tmp_path: Path) -> None:
    log.open_sinks(tmp_path, "INFO")
    logger.info("hello {}", "you")
    line = (tmp_path / "filestored.log").read_text()
    assert re.fullmatch(
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} [+-]\d{{4}} INFO +{os.getpid()} hello you\n",
        line,
    )


@pytest.mark.usefixtures("_sinks_are_closed")
def test_traceback_shows_no_values(tmp_path: Path) -> None:
    log.open_sinks(tmp_path, "INFO")
    password = "s" + "ecret"
    try:
        {}[len(password)]
    except KeyError:
        logger.exception("it went wrong")
    text = (tmp_path / "filestored.log").read_text()
    assert "KeyError: 6" in text
    assert "secret" not in text


@pytest.mark.usefixtures("_sinks_are_closed")
def test_access_lines_go_to_their_own_file_until_it_is_moved(tmp_path: Path) -> None:
    log.open_sinks(tmp_path, "INFO")
    log.access("GET 1\nGET 2\n")
    (tmp_path / "access.log").rename(tmp_path / "moved")
    log.reopen()
    log.access("GET 3\n")
    assert (tmp_path / "moved").read_text() == "GET 1\nGET 2\n"
    assert (tmp_path / "access.log").read_text() == "GET 3\n"
    assert not (tmp_path / "filestored.log").exists()


@pytest.mark.usefixtures("_sinks_are_closed")
def test_foreground_logs_requests_to_stdout_and_the_rest_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    log.open_sinks(None, "INFO")
    logger.info("hello")
    log.access("GET 1\n")
    log.reopen()
    out, err = capfd.readouterr()
    assert err.endswith(" hello\n")
    assert out == "GET 1\n"


@pytest.mark.usefixtures("_sinks_are_closed")
def test_lines_name_the_request_that_is_worked_on(capfd: pytest.CaptureFixture[str]) -> None:
    log.open_sinks(None, "INFO")
    token = log.request_id.set("abc-1")
    logger.info("within")
    log.request_id.reset(token)
    logger.info("after")
    within, after = capfd.readouterr().err.splitlines()
    assert within.endswith(f" {os.getpid()} [abc-1] within")
    assert after.endswith(f" {os.getpid()} after")


def test_reader_of_stderr_that_has_gone_harms_nobody() -> None:
    saved = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        os.dup2(writer, 2)
        log.StandardStream(2).write("nobody hears this\n")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writer)


def test_check_folder_makes_it_and_opens_the_files(path: Path) -> None:
    log.check_folder(path.parent)
    assert {file.name for file in path.parent.iterdir()} == {"filestored.log", "access.log"}


@pytest.mark.parametrize("in_the_way", ["log", "log/access.log"])
def test_check_folder_raises_where_it_cannot(in_the_way: str, path: Path, tmp_path: Path) -> None:
    if in_the_way == "log":
        path.parent.touch()
    else:
        (tmp_path / in_the_way).mkdir(parents=True)
    with pytest.raises(OSError, match=r"File exists|Is a directory"):
        log.check_folder(path.parent)
