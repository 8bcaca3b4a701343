"""Configuration as its users meet it: `.env`, `.env.dist`, and daemons that obey them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from socket import create_server

import pytest

from httpd import config
from httpd.config import Source, reading
from tests.app.samples import upload
from tests.daemons import PROJECT, Daemon
from tests.service import Service, path_in

DIST = (PROJECT / ".env.dist").read_text()
# A setting that is commented out: NAME=value behind a hash.
SETTING = re.compile(r"^# (FILESTORED_[A-Z_]+)=(.*)$", re.MULTILINE)


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    """Requests to the test's daemon, which is not started yet."""
    with Service(daemon) as service:
        yield service


# ---- .env.dist


def test_dist_file_has_every_variable_once_and_in_order() -> None:
    assert [name for name, _ in SETTING.findall(DIST)] == [
        config.variables(key)[0] for key in config.OPTIONS
    ]
    for option in config.OPTIONS.values():
        assert option.variable is None or f"Also {option.variable}." in DIST


def test_dist_file_explains_every_variable() -> None:
    for paragraph in DIST.split("\n\n")[1:]:
        *told, setting = paragraph.splitlines()
        if "=" in setting:
            assert told, setting
            assert all(line.startswith("# ") for line in told)


def test_dist_file_says_the_defaults(tmp_path: Path) -> None:
    text = SETTING.sub(r"\1=\2", DIST)
    assert text.count("\nFILESTORED_") == len(config.OPTIONS)
    (tmp_path / ".env").write_text(text)
    source = reading._dotenv(tmp_path / ".env")
    assert config.read([], tmp_path, [source]) == config.read([], tmp_path, [])


def test_dist_file_sets_nothing_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DIST)
    assert reading._dotenv(tmp_path / ".env").values == {}


# ---- values


@pytest.mark.parametrize("text", ["65_536", "65536", "64K", "64k"])
def test_chunk_is_a_number_with_underscores_or_a_unit(text: str) -> None:
    source = Source({"FILE_SERVICE_CHUNK": text}, Path("/"), "the environment")
    assert config.read([], Path("/"), [source])[1].buffer == 65536


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("sqlite:///files.db", "sqlite:////etc/filestored/files.db"),
        ("sqlite:///./db/../files.db", "sqlite:////etc/filestored/files.db"),
        ("sqlite+aiosqlite:///files.db", "sqlite+aiosqlite:////etc/filestored/files.db"),
        ("sqlite:////var/files.db", "sqlite:////var/files.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite://", "sqlite://"),
        ("postgresql://u:p@h/files", "postgresql://u:p@h/files"),
        ("postgresql:///files", "postgresql:///files"),
    ],
)
def test_path_of_a_database_starts_where_it_is_written(url: str, read: str) -> None:
    source = Source({"FILE_SERVICE_DATABASE_URL": url}, Path("/etc/filestored"), ".env")
    assert config.read([], Path("/"), [source])[1].database_url == read


# ---- daemons


def free_port() -> int:
    """Return a port that nobody listens on."""
    with create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def bare(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """The test's daemon, whose command line sets nothing that the older variables set."""
    whole = daemon.line

    def line(command: str, *flags: str) -> list[str]:
        kept = ("--pidfile", "--log-dir", "--durability", "--workers")
        program, own = whole(command)[:3], whole(command)[3:]
        return [*program, *(flag for flag in own if flag.startswith(kept)), *flags]

    monkeypatch.setattr(daemon, "line", line)
    return daemon


def test_older_variables_in_a_dotenv_file(bare: Daemon, service: Service, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / ".env").write_text(
        f"FILE_SERVICE_HOST=127.0.0.1\nFILE_SERVICE_PORT={port}\nFILE_SERVICE_DIR=files\n"
        "FILE_SERVICE_DATABASE_URL=sqlite+aiosqlite:///names.db\nFILE_SERVICE_CHUNK=65_536\n"
    )
    bare.start()
    assert bare.port == port
    file_id = upload(service, b"hello", "a.txt")
    assert path_in(tmp_path / "files", "5d41402abc4b2a76b9719d911017c592").read_bytes() == b"hello"
    assert not (tmp_path / "files" / ".catalog.db").exists()
    bare.start(command="restart")
    assert service.get(f"/files/{file_id}/").content == b"hello"
    bare.stop()
    with sqlite3.connect(tmp_path / "names.db") as connection:
        assert connection.execute("SELECT id, name FROM files").fetchall() == [(file_id, "a.txt")]


@pytest.mark.parametrize("strongest", ["flag", "environment", "dotenv"])
def test_which_store_a_daemon_takes(strongest: str, bare: Daemon, service: Service) -> None:
    (bare.folder / ".env").write_text("FILE_SERVICE_HOST=127.0.0.1\nFILE_SERVICE_DIR=dotenv\n")
    if strongest != "dotenv":
        bare.env["FILE_SERVICE_DIR"] = "environment"
    flags = ["--store=flag"] if strongest == "flag" else []
    bare.start("--port=0", *flags)
    digest = service.post("/", data=b"hello").text
    assert path_in(bare.folder / strongest, digest).exists()


@pytest.mark.parametrize("place", ["the environment", ".env"])
def test_wrong_value_is_told_with_its_place(place: str, daemon: Daemon) -> None:
    where, file = place, daemon.folder / ".env"
    if place == ".env":
        file.write_text("FILE_SERVICE_CHUNK=64 KB\n")
        where = str(file)
    else:
        daemon.env["FILE_SERVICE_CHUNK"] = "64 KB"
    done = daemon.command("start")
    told = f"FILE_SERVICE_CHUNK in {where}: '64 KB' is not a number of bytes like 4096, 64K or 1T"
    assert (done.returncode, done.stderr) == (2, f"filestored: {told}\n")
    # It would not let the daemon be stopped either.
    file.unlink(missing_ok=True)
    daemon.env.pop("FILE_SERVICE_CHUNK", None)


NOT_SHARED = "a SQLite database in memory cannot be shared by several workers: give it a file"
DATABASES = {
    "sqlite:///:memory:": NOT_SHARED,
    "sqlite+aiosqlite:///:memory:": NOT_SHARED,
    "mysql://me:secret@localhost/files": "a database URL begins with one of sqlite, ",
}


@pytest.mark.parametrize("command", ["start", "run"])
@pytest.mark.parametrize(("url", "told"), DATABASES.items(), ids=DATABASES)
def test_database_that_cannot_be_used_is_told_at_the_start(
    url: str, told: str, command: str, daemon: Daemon
) -> None:
    daemon.env["FILE_SERVICE_DATABASE_URL"] = url
    done = daemon.command(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"filestored: --database-url: {told}")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr
    assert not daemon.pidfile.exists()


HELLO = "5d41402abc4b2a76b9719d911017c592"
ID = "00000000-0000-4000-8000-000000000000"
WITHOUT_DATABASE: list[tuple[str, str, int]] = [
    ("GET", f"/?file_hash={HELLO}", 200),
    ("GET", f"/?file_hash={HELLO}&stat", 200),
    ("GET", f"/?file_hash={ID.replace('-', '')}", 404),
    ("POST", "/", 503),  # content that is there: a name may have brought it
    ("DELETE", f"/?file_hash={HELLO}", 503),  # a name may use it
    ("GET", "/files/", 503),
    ("POST", "/files/a.txt", 503),
    ("GET", f"/files/{ID}/", 503),
    ("DELETE", f"/files/{ID}/", 503),
    ("GET", "/readyz", 503),
    ("GET", "/healthz", 200),
]


def test_daemon_whose_database_is_away(daemon: Daemon, service: Service) -> None:
    daemon.start(f"--database-url=postgresql://me:secret@127.0.0.1:{free_port()}/files")
    assert service.post("/", data=b"hello").text == HELLO
    for method, target, status in WITHOUT_DATABASE:
        data = b"hello" if method == "POST" else None
        answer = service.request(method, target, data=data)
        assert (method, target, answer.status_code) == (method, target, status)
        assert "secret" not in answer.text
    assert service.get_file(HELLO).content == b"hello"
    assert "secret" not in daemon.life_log()
    assert daemon.staged() == []
