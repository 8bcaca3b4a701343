from __future__ import annotations

import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest

from httpd import config
from httpd.config import BadOption, Networks, Settings, Task

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path("/srv/filestored")

PROXIES = Networks((ip_network("10.0.0.0/8"), ip_network("::1/128")), unix=True)

# What every option is when nobody says anything, and another value as text and as it is read.
OPTIONS = {
    "host": ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
    "port": (9000, "9001", 9001),
    "listen": (5, "64", 64),
    "trusted_proxy": (None, "10.0.0.0/8, ::1,unix:", PROXIES),
    "store": (HOME / "store", "/data", Path("/data")),
    "hash": ("md5", "SHA256", "sha256"),
    "durability": ("full", "none", "none"),
    "database_url": (None, "sqlite:////tmp/c.db", "sqlite:////tmp/c.db"),
    "workers": (len(os.sched_getaffinity(0)), "1000", 1000),
    "threads": (8, "2", 2),
    "user": (None, "nobody", "nobody"),
    "group": (None, "65534", "65534"),
    "pidfile": (HOME / "filestored.pid", "/run/f.pid", Path("/run/f.pid")),
    "log_dir": (HOME / "log", "/var/log/f", Path("/var/log/f")),
    "log": ("DEBUG", "warning", "WARNING"),
    "access_log": ("combined", "JSON", "json"),
    "drain_timeout": (30.0, "0", 0.0),
    "stall_timeout": (30.0, "0", 0.0),
    "buffer": (4096, "64K", 65536),
    "max_body": (1 << 40, "5G", 5 << 30),
    "max_head": (16384, "8_192", 8192),
    "max_target": (8192, "4k", 4096),
    "max_fields": (100, "50", 50),
    "head_timeout": (10.0, "2.5", 2.5),
    "body_timeout": (30.0, "60", 60.0),
    "idle_timeout": (75.0, "5", 5.0),
    "send_timeout": (30.0, "1e1", 10.0),
    "min_rate": (500, "0", 0),
    "max_connections": (16384, "100", 100),
    "max_connections_per_client": (0, "20", 20),
    "max_requests": (10_000, "0", 0),
}
FLAGS = {key: f"--{key.replace('_', '-')}" for key in OPTIONS}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder, with an empty environment."""
    monkeypatch.chdir(tmp_path)
    for key in list(os.environ):
        if key.startswith(("FILESTORED_", "FILE_SERVICE_")):
            monkeypatch.delenv(key)


def read(*argv: str, home: Path = HOME) -> Settings:
    return config.read(argv, home)[1]


def test_every_option_is_in_the_table_above() -> None:
    assert list(OPTIONS) == list(config.OPTIONS)


@pytest.mark.parametrize("key", OPTIONS)
def test_default(key: str) -> None:
    assert getattr(read(), key) == OPTIONS[key][0]


@pytest.mark.parametrize("key", OPTIONS)
def test_flag(key: str) -> None:
    _, text, value = OPTIONS[key]
    assert getattr(read(FLAGS[key], text), key) == value
    assert getattr(read(f"{FLAGS[key]}={text}"), key) == value


@pytest.mark.parametrize("key", OPTIONS)
def test_variable(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FILESTORED_{key.upper()}", OPTIONS[key][1])
    assert getattr(read(), key) == OPTIONS[key][2]


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("FILE_SERVICE_HOST", "host"),
        ("FILE_SERVICE_PORT", "port"),
        ("FILE_SERVICE_DIR", "store"),
        ("FILE_SERVICE_CHUNK", "buffer"),
    ],
)
def test_second_variable_loses_against_the_first(
    variable: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default, text, value = OPTIONS[key]
    monkeypatch.setenv(variable, text)
    assert getattr(read(), key) == value
    monkeypatch.setenv(f"FILESTORED_{key.upper()}", str(default))
    assert getattr(read(), key) == default


@pytest.mark.parametrize("strongest", range(5))
def test_flag_then_environment_then_dotenv_here_then_dotenv_at_home_then_default(
    strongest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    argv = ["--port=1"] if strongest == 0 else []
    if strongest <= 1:
        monkeypatch.setenv("FILE_SERVICE_PORT", "2")
    if strongest <= 2:
        (tmp_path / ".env").write_text("FILE_SERVICE_PORT=3\n")
    if strongest <= 3:
        (home / ".env").write_text("FILESTORED_PORT=4\n")
    assert read(*argv, home=home).port == (1, 2, 3, 4, 9000)[strongest]


def test_dotenv_stays_out_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# comment\nexport FILE_SERVICE_PORT='9100'\nOTHER=1\n")
    assert read().port == 9100
    assert "FILE_SERVICE_PORT" not in os.environ
    assert "OTHER" not in os.environ


@pytest.mark.parametrize("line", ["FILESTORED_PORT=", "FILESTORED_PORT"])
def test_variable_set_to_nothing_is_not_set(line: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{line}\nFILE_SERVICE_PORT=9100\n")
    assert read().port == 9100


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        ([], "start"),
        (["--port", "9001"], "start"),
        (["start", "--port", "9001"], "start"),
        (["--port", "9001", "run"], "run"),
        (["--port", "9001", "stop", "--listen", "7"], "stop"),
        *([[command], command] for command in config.COMMANDS if command != "import"),
        (["import", "/old", "--port=9001"], "import"),
        (["import", "--port=9001", "/old"], "import"),
        (["--port", "9001", "import", "/old"], "import"),
    ],
)
def test_command(argv: list[str], command: str) -> None:
    found, settings = config.read(argv, HOME)
    assert found == command
    assert settings.port == (9001 if "9001" in " ".join(argv) else 9000)


@pytest.mark.parametrize(
    ("flag", "text", "complaint"),
    [
        ("--port", "9x", "is not a whole number"),
        ("--port", "", "is not a whole number"),
        ("--port", "65536", "is not from 0 to 65535"),
        ("--port", "-1", "is not from 0 to 65535"),
        ("--listen", "0", "is not from 1 to 65535"),
        ("--workers", "0", "is not from 1 to 1024"),
        ("--buffer", "0", "is not from 1 to 67108864"),
        ("--max-body", "10X", "is not a number of bytes like 4096, 64K or 1T"),
        ("--max-body", "K", "is not a number of bytes like 4096, 64K or 1T"),
        ("--max-body", "1.5G", "is not a number of bytes like 4096, 64K or 1T"),
        ("--idle-timeout", "soon", "is not a number of seconds"),
        ("--idle-timeout", "nan", "is not from 0.01 to 86400"),
        ("--idle-timeout", "inf", "is not from 0.01 to 86400"),
        ("--idle-timeout", "0", "is not from 0.01 to 86400"),
        ("--hash", "crc32", "is none of md5, sha1, sha256, sha512, blake2b"),
        ("--durability", "half", "is none of full, none"),
        ("--log", "LOUD", "is none of TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL"),
        ("--host", "", "is empty"),
        ("--host", "unix:", "is empty"),
        ("--store", "", "is empty"),
        ("--user", "", "is empty"),
        ("--trusted-proxy", "proxy", "is no list of addresses like 10.0.0.0/8, ::1, unix:"),
        ("--trusted-proxy", "::1,,::2", "is no list of addresses like 10.0.0.0/8, ::1, unix:"),
        ("--trusted-proxy", "10.0.0.1/8", "is no network: did you mean 10.0.0.0/8?"),
    ],
)
def test_wrong_value(flag: str, text: str, complaint: str) -> None:
    with pytest.raises(BadOption, match=f"^{flag}: {re.escape(repr(text) + ' ' + complaint)}$"):
        read(f"{flag}={text}")


def test_wrong_value_is_found_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("FILE_SERVICE_PORT=9x\n")
    with pytest.raises(BadOption) as caught:
        read()
    place = f"{tmp_path}/.env"
    assert str(caught.value) == f"FILE_SERVICE_PORT in {place}: '9x' is not a whole number"
    monkeypatch.setenv("FILESTORED_PORT", "9y")
    with pytest.raises(BadOption, match=r"^FILESTORED_PORT in the environment: '9y' is not"):
        read()


def test_unreadable_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"FILE_SERVICE_PORT=\xff\n")
    with pytest.raises(BadOption, match=r"cannot read .*/\.env"):
        read()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["begin"], "begin"),
        (["--prot=1"], "--prot=1"),
        (["--por=1"], "--por=1"),
        (["start", "stop"], "stop"),
        (["--port"], "--port"),
    ],
)
def test_unknown_word_exits_with_2(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(*argv)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_relative_paths_start_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("FILE_SERVICE_DIR=files\nFILESTORED_LOG_DIR=~/log\n")
    monkeypatch.setenv("HOME", "/home/me")
    settings = read("--pidfile", "run/../pid", "--host", "unix:sock", home=home)
    assert settings.store == home / "files"
    assert settings.log_dir == Path("/home/me/log")
    assert settings.pidfile == tmp_path / "pid"
    assert settings.host == f"unix:{tmp_path}/sock"


@pytest.mark.parametrize(
    ("text", "host"), [("::", "::"), ("[::1]", "::1"), ("files.example", "files.example")]
)
def test_host(text: str, host: str) -> None:
    assert read("--host", text).host == host


def test_a_list_may_be_given_in_pieces() -> None:
    flags = ["--trusted-proxy=10.0.0.0/8", "--trusted-proxy", "::1,unix:"]
    assert read(*flags).trusted_proxy == PROXIES


@pytest.mark.parametrize(
    ("text", "among", "not_among"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "::a00:1", "unix:", ""]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.2"]),
        ("fd00::/8", ["fd00::1", "fdff::%eth0"], ["fe00::", "10.0.0.1"]),
        ("unix:", ["unix:"], ["127.0.0.1", "::1", "unknown"]),
    ],
)
def test_networks(text: str, among: list[str], not_among: list[str]) -> None:
    networks = read("--trusted-proxy", text).trusted_proxy
    assert networks is not None
    assert [each in networks for each in (*among, *not_among)] == (
        [True] * len(among) + [False] * len(not_among)
    )


@pytest.mark.parametrize("key", OPTIONS)
def test_settings_become_flags_and_settings_again(key: str) -> None:
    settings = read(FLAGS[key], OPTIONS[key][1])
    assert settings.flags() == [f"{FLAGS[key]}={OPTIONS[key][2]}"]
    assert config.read(settings.flags(), HOME, ())[1] == settings


def test_defaults_need_no_flags() -> None:
    assert read().flags() == []


def test_a_program_elsewhere_is_told_every_path() -> None:
    flags = read("--port=1").flags(elsewhere=True)
    assert config.read(flags, Path("/elsewhere"), ())[1].store == HOME / "store"
    assert flags == [
        "--port=1",
        *(f"--{name}={HOME / path}" for name, path in
          [("store", "store"), ("pidfile", "filestored.pid"), ("log-dir", "log")]),
    ]  # fmt: skip


def test_flags_alone_count_where_no_source_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILE_SERVICE_PORT", "9x")
    assert config.read(["--listen=6"], HOME, ())[1].port == 9000


def test_version_is_the_projects(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    with pytest.raises(SystemExit) as caught:
        read("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"filestored {project['version']}\n"


def test_help_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    text = capsys.readouterr().out
    for word in [*config.COMMANDS, *FLAGS.values(), "FILE_SERVICE_CHUNK", "default 9000"]:
        assert word in text


# ---- what verify and import are told besides


def test_task_is_empty_unless_told() -> None:
    assert config.read_task(["verify"]) == Task()


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["verify", "--repair"], "repair", True),
        (["verify", "--anew"], "anew", True),
        (["verify", "--json"], "json", True),
        (["verify", "--rate", "50M"], "rate", 50 << 20),
        (["import", "--rate=1", "/old"], "rate", 1),
        (["import", "--json", "/old"], "path", Path("/old")),
        (["import", "/old", "--names-from=sqlite:////a.db"], "names_from", "sqlite:////a.db"),
    ],
)
def test_task(argv: list[str], key: str, value: object) -> None:
    assert getattr(config.read_task(argv), key) == value


def test_paths_of_a_task_start_from_the_current_folder(tmp_path: Path) -> None:
    task = config.read_task(["import", "old", "--names-from", "sqlite:///a.db"])
    assert (task.path, task.names_from) == (tmp_path / "old", f"sqlite:///{tmp_path}/a.db")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["verify", "--rate=0"], "--rate: '0' is not from 1 to"),
        (["verify", "--rate=fast"], "--rate: 'fast' is not a number of bytes"),
        (["import", ""], "PATH: '' is empty"),
    ],
)
def test_wrong_value_of_a_task(argv: list[str], complaint: str) -> None:
    with pytest.raises(BadOption, match=re.escape(complaint)):
        config.read_task(argv)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["start", "--repair"], "start takes no --repair"),
        (["--json"], "start takes no --json"),
        (["stop", "/old"], "stop takes no PATH: '/old'"),
        (["verify", "/old"], "verify takes no PATH"),
        (["verify", "--names-from=sqlite:///a"], "verify takes no --names-from"),
        (["import", "/old", "--repair"], "import takes no --repair"),
        (["import"], "import needs the PATH of an older store"),
    ],
)
def test_what_a_command_does_not_take_exits_with_2(
    argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read(*argv)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
