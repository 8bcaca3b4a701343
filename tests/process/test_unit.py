"""The units: whatever is in a path or an option, systemd reads what was meant."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from httpd.config import OPTIONS, BadOption, flag
from httpd.process import unit
from tests.daemons import PROJECT

PYTHON = "/usr/bin/python3"


def service(*options: str, kind: str = "plain", name: str = "store") -> str:
    return unit.service_unit(unit.read([name, kind, PYTHON, *options]))


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def command(text: str, key: str = "ExecStart") -> list[str]:
    (line,) = directives(text)[key]
    return shlex.split(line.removeprefix(":").replace("%%", "%"))


def test_no_placeholder_is_left() -> None:
    for kind in ("plain", "socket"):
        given = unit.read(["store", kind, PYTHON])
        for text in (unit.service_unit(given), unit.socket_unit(given)):
            words = [word for word in text.split() if word.count("@") > 1]
            assert words == []
            assert "\n\n\n" not in text


def test_flags_that_everybody_asks_for_are_shown_and_others_where_they_are_given() -> None:
    python, main, word, *flags = command(service("--buffer=8K", "--max-body", "1G"))
    assert (python, main, word) == (PYTHON, str(PROJECT / "main.py"), "run")
    assert flags == [
        "--host=0.0.0.0", "--port=9000", "--log=DEBUG", "--listen=5", "--buffer=8192",
        "--store=/var/lib/store", "--pidfile=/run/store/pid", f"--max-body={1 << 30}",
    ]  # fmt: skip
    assert command(service(), "ExecReload")[1:] == [
        str(PROJECT / "main.py"), "reload", "--pidfile=/run/store/pid"
    ]  # fmt: skip


VALUES = {
    "host": "127.0.0.1", "hash": "sha256", "durability": "none", "log": "INFO",
    "database_url": "postgresql://u:p@h/d", "port": "9001", "trusted_proxy": "10.0.0.0/8",
    "access_log": "json",
}  # fmt: skip


@pytest.mark.parametrize("key", OPTIONS.keys() - {"user", "group", "log_dir"})
def test_every_option_reaches_the_daemon(key: str) -> None:
    value = VALUES.get(key, "/srv/x" if key in ("store", "pidfile") else "600")
    (given,) = [each for each in command(service(f"{flag(key)}={value}"))
                if each.startswith(f"{flag(key)}=")]  # fmt: skip
    assert given.partition("=")[2].removesuffix(".0") == value


ODD = '/srv/a b/50%/"q"/$HOME/ü\\n'


def test_odd_paths_are_quoted() -> None:
    text = service(f"--store={ODD}")
    assert f"--store={ODD}" in command(text)
    assert 'ReadWritePaths="/srv/a b/50%%/\\"q\\"/$HOME/ü\\\\n"' in text
    assert directives(text)["ExecStart"][0].startswith(":")  # which leaves `$` alone


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_understands_them(tmp_path: Path) -> None:
    given = ["store", "socket", sys.executable, f"--store={ODD}", "--host=::"]
    for kind, render in (("service", unit.service_unit), ("socket", unit.socket_unit)):
        text = render(unit.read(given)).replace("User=store", "User=root")
        (tmp_path / f"store.{kind}").write_text(text.replace("Group=store", "Group=root"))
    files = [str(tmp_path / "store.service"), str(tmp_path / "store.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", files[0]],
                   check=True, capture_output=True)  # fmt: skip


def test_what_lies_in_a_home_is_shown_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "HOME", Path("/home/me/my files"))
    text = service("--store=/root/files", "--database-url=sqlite:////srv/db/names.db")
    found = directives(text)
    assert found["BindReadOnlyPaths"] == ['"/home/me/my files"']
    assert found["BindPaths"] == ['"/root/files"']
    assert found["ReadWritePaths"] == ['"/srv/db"']
    assert found["Documentation"] == ["file:///home/me/my%%20files/README.md"]


def test_low_port_takes_a_capability_unless_systemd_opens_it() -> None:
    low = directives(service("--port=80"))
    assert (low["AmbientCapabilities"], low["PrivateUsers"]) == (["CAP_NET_BIND_SERVICE"], ["no"])
    for text in (service("--port=80", kind="socket"), service("--host=unix:/run/x", "--port=80")):
        assert directives(text)["AmbientCapabilities"] == [""]


@pytest.mark.parametrize(
    ("options", "streams"),
    [
        (["--host=::", "--port=80"], ["[::]:80"]),
        (["--host=unix:/run/s 50%"], ["/run/s 50%%"]),
        (["--host=127.0.0.1"], ["127.0.0.1:9000"]),
    ],
)
def test_addresses_of_the_socket(options: list[str], streams: list[str]) -> None:
    given = unit.read(["store", "socket", PYTHON, "--listen=2000", *options])
    found = directives(unit.socket_unit(given))
    assert (found["ListenStream"], found["Backlog"]) == (streams, ["2000"])
    assert "Requires" in directives(unit.service_unit(given))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a b", "plain", PYTHON], "--service_name: 'a b'"),
        (["x" * 32, "plain", PYTHON], "--service_name"),
        (["x", "socket", PYTHON, "--host=no such host"], "--host: 'no such host'"),
        (["x", "socket", PYTHON, "--port=0"], "--port"),
        (["x", "plain", PYTHON, "--buffer=0"], "--buffer: '0' is not from"),
        (["x", "plain", PYTHON, "--log-dir=/x"], "--log-dir"),
    ],
)
def test_what_is_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(BadOption, match=reason):
        unit.read(arguments)


def test_it_needs_no_library(tmp_path: Path) -> None:
    """It runs before any is installed: -S and -E leave out what the environment has."""
    line = [sys.executable, "-SE", "-m", "httpd.process.unit", "facts", "store", "plain", PYTHON]
    done = subprocess.run(
        [*line, "--store=/srv/a b", "--user=me"], cwd=PROJECT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "user=me\ngroup=me\nstore='/srv/a b'\n"
    refused = subprocess.run([*line, "--port=x"], cwd=PROJECT, capture_output=True, text=True,
                             check=False)  # fmt: skip
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "filestored: --port: 'x' is not a whole number\n"


@pytest.mark.root
def test_setup_script_without_systemd_says_what_to_do_instead() -> None:
    """Where /run is empty there is none, whatever this machine has."""
    line = 'mount -t tmpfs none /run && exec "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", line, str(PROJECT / "setup_systemd.sh")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert "'make start' starts the daemon in the background" in done.stderr
