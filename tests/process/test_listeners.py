from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from httpd import config
from httpd.config import Settings
from httpd.process import listeners as module
from httpd.process.listeners import bound_port, is_open_to_all, open_listeners, remove_socket, url

Open = Callable[..., list[socket.socket]]


def settings(host: str, port: int = 0, *flags: str) -> Settings:
    return config.read([f"--host={host}", f"--port={port}", *flags], Path("/"), ())[1]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open listeners that are closed after the test."""
    with ExitStack() as stack:

        def open_them(*args: str | int, patience: float = 0) -> list[socket.socket]:
            found = open_listeners(settings(*args), patience)
            for listener in found:
                stack.enter_context(listener)
            return found

        yield open_them


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sock"


def is_answered(address: tuple[str, int] | str) -> bool:
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(address) == 0
    with socket.create_connection(address, timeout=10):
        return True


@pytest.mark.parametrize(
    ("host", "answers"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1", "127.0.0.2"]),
        ("::1", ["::1"]),
        ("::", ["::1", "127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
    ],
)
def test_host(host: str, answers: list[str], opened: Open) -> None:
    found = opened(host)
    port = bound_port(found)
    assert port
    assert all(is_answered((address, port)) for address in answers)


def test_name_with_two_addresses_gets_one_port(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [("::1", 0, 0, 0), ("127.0.0.1", 0)]
    monkeypatch.setattr(module, "_addresses", lambda *_: [
        (socket.AF_INET6 if ":" in address[0] else socket.AF_INET, address) for address in both
    ])  # fmt: skip
    found = opened("both.example")
    assert len({listener.getsockname()[1] for listener in found}) == 1
    assert [listener.getsockname()[0] for listener in found] == ["::1", "127.0.0.1"]


def test_address_of_a_name_that_is_not_here_is_left_out(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [("192.0.2.1", 0), ("127.0.0.1", 0)]  # the first is for documentation (RFC 5737)
    monkeypatch.setattr(module, "_addresses", lambda *_: [(socket.AF_INET, a) for a in both])
    assert [listener.getsockname()[0] for listener in opened("both.example")] == ["127.0.0.1"]


def test_listeners_do_not_block_and_do_not_cross_an_exec(opened: Open, path: Path) -> None:
    for listener in opened("127.0.0.1") + opened(f"unix:{path}"):
        assert not listener.getblocking()
        assert not listener.get_inheritable()


def test_clients_that_come_at_once_wait_in_the_queue_however_short_the_option(
    opened: Open,
) -> None:
    (listener,) = opened("127.0.0.1", 0, "--listen=1")
    with ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.socket())
            client.connect(listener.getsockname())
    # Nothing was accepted: each of them would have been refused or made to wait.


@pytest.mark.parametrize(
    ("host", "port", "number"),
    [
        ("192.0.2.1", 0, errno.EADDRNOTAVAIL),
        ("a..b", 0, errno.EINVAL),
        ("unix:/nowhere/sock", 0, errno.ENOENT),
        (f"unix:/tmp/{'x' * 200}", 0, None),
    ],
)
def test_address_that_cannot_be_bound(host: str, port: int, number: int | None) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=r".") as caught:
        open_listeners(settings(host, port), patience=0)
    assert caught.value.errno == number
    assert caught.value.filename == url(settings(host, port))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_in_use(host: str, opened: Open) -> None:
    port = bound_port(opened(host))
    with pytest.raises(OSError, match=f"Address already in use: 'http://{host}:{port}'"):
        opened(host, port)


def test_port_that_becomes_free_in_time(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = opened("127.0.0.1")
    port = bound_port([first])
    monkeypatch.setattr(module.time, "sleep", lambda _: first.close())
    assert bound_port(opened("127.0.0.1", port, patience=10)) == port


def test_unix_socket_is_for_user_and_group(opened: Open, path: Path) -> None:
    mask = os.umask(0)
    opened(f"unix:{path}")
    assert os.umask(mask) == 0  # left as it was found
    assert path.stat().st_mode & 0o777 == 0o660
    assert is_answered(str(path))
    remove_socket(settings(f"unix:{path}"))
    assert not path.exists()
    remove_socket(settings(f"unix:{path}"))  # nothing there does no harm


def test_unix_socket_of_the_dead_is_replaced(opened: Open, path: Path) -> None:
    opened(f"unix:{path}")[0].close()
    assert path.exists()
    opened(f"unix:{path}")
    assert is_answered(str(path))


@pytest.mark.parametrize("waiting", [0, 1])
def test_unix_socket_of_the_living_is_left_alone(waiting: int, opened: Open, path: Path) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(waiting):  # a full queue does not refuse, it makes wait (unix(7))
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        with pytest.raises(OSError, match="Address already in use"):
            opened(f"unix:{path}")
        assert path.exists()


def test_file_that_is_no_socket_is_left_alone(opened: Open, path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(OSError, match="there is a file that is no socket"):
        opened(f"unix:{path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("host", "shown", "for_clients", "open_to_all"),
    [
        ("0.0.0.0", "http://0.0.0.0:9000", "http://localhost:9000", True),
        ("::", "http://[::]:9000", "http://localhost:9000", True),
        ("::1", "http://[::1]:9000", "http://[::1]:9000", False),
        ("127.0.0.1", "http://127.0.0.1:9000", "http://127.0.0.1:9000", False),
        ("files.example", "http://files.example:9000", "http://files.example:9000", False),
        ("unix:/run/f", "unix:/run/f", "unix:/run/f", False),
    ],
)
def test_url(host: str, shown: str, for_clients: str, open_to_all: bool) -> None:  # noqa: FBT001
    chosen = settings(host, 9000)
    assert url(chosen) == shown
    assert url(chosen, local=True) == for_clients
    assert is_open_to_all(chosen) is open_to_all
