"""The service in a real systemd: installed, used, hurt, rebooted and removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.daemons import PROJECT, until
from tests.systemd.machines import PLACE, Machine

pytestmark = pytest.mark.root

UNIT = "filestored.service"
PORT = 8200
FILE = f"/etc/systemd/system/{UNIT}"


def install(machine: Machine, *arguments: str) -> str:
    """Install the service; return what the script prints."""
    done = machine.setup("--host", "127.0.0.1", f"--port={PORT}", "--workers=2", *arguments)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def status(machine: Machine) -> str:
    return machine.show(UNIT, "StatusText")[0]


def journal(machine: Machine) -> str:
    return machine.do("journalctl", "--no-pager", "-u", UNIT)


def test_from_clone_to_a_service_that_survives_a_reboot(machine: Machine) -> None:
    told = install(machine)
    line = f"serving on http://127.0.0.1:{PORT} with 2 workers, store /var/lib/filestored"
    assert f'Status: "{line}"' in told
    assert "Active: active (running)" in told
    assert machine.show(UNIT, "ActiveState", "UnitFileState") == ["active", "enabled"]
    digest = machine.fetch(PORT, "/", "-d", "hello")
    assert machine.do("stat", "-c", "%U %a", f"/var/lib/filestored/{digest[:2]}/{digest}") == (
        "filestored 640\n"
    )
    assert machine.do("ps", "-o", "user=", "-C", "python").split() == ["filestored"] * 3
    assert "2 workers serve" in journal(machine)
    until(lambda: '"POST / HTTP/1.1" 200' in machine.do("cat", "/var/log/filestored/access.log"))
    verified = machine.ask("systemd-analyze", "verify", "--man=no", FILE)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    machine.do("systemd-analyze", "security", "--offline=yes", "--threshold=15", FILE)
    machine.reboot()
    assert machine.show(UNIT, "ActiveState") == ["active"]
    assert machine.fetch(PORT, f"/?file_hash={digest}") == "hello"
    machine.do("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result", "ExecMainStatus") == ["success", "0"]
    kept = machine.setup("--uninstall")
    assert "stored files stay in /var/lib/filestored" in kept.stdout
    assert machine.do("cat", f"/var/lib/filestored/{digest[:2]}/{digest}") == "hello"


@pytest.mark.long
def test_run_again_it_changes_what_is_asked_for_and_nothing_else(machine: Machine) -> None:
    install(machine)
    pid, workers = machine.pid(UNIT), machine.workers(UNIT)
    unit = machine.do("cat", FILE)
    install(machine)  # the same: fresh workers, as a new version would need
    assert machine.pid(UNIT) == pid
    until(lambda: not workers & machine.workers(UNIT))
    assert machine.do("cat", FILE) == unit
    install(machine, "--max-body=1M")
    assert machine.pid(UNIT) != pid
    assert '"--max-body=1048576"' in machine.do("cat", FILE)


def test_reload_and_restart_under_load(machine: Machine) -> None:
    install(machine)
    pid = machine.pid(UNIT)
    with machine.load(PORT) as result:
        machine.do("systemctl", "reload", UNIT)
    assert result["failures"] == []
    assert result["requests"] > 100
    assert machine.pid(UNIT) == pid
    machine.do("systemctl", "restart", UNIT)
    assert machine.pid(UNIT) != pid
    assert machine.fetch(PORT) == "ok\n"


def test_restart_with_a_socket_of_systemds_refuses_nobody(machine: Machine) -> None:
    install(machine, "--socket")
    assert machine.show("filestored.socket", "ActiveState", "UnitFileState") == [
        "active", "enabled"
    ]  # fmt: skip
    file = "/etc/systemd/system/filestored.socket"
    assert machine.ask("systemd-analyze", "verify", "--man=no", file, FILE).stderr == ""
    with machine.load(PORT) as result:
        machine.do("systemctl", "restart", UNIT)
        machine.do("systemctl", "reload", UNIT)
    assert result["failures"] == []
    assert result["requests"] > 100
    # What comes while it is down waits, and starts it.
    machine.do("systemctl", "stop", UNIT)
    assert machine.fetch(PORT) == "ok\n"
    install(machine)  # and back again
    assert machine.show("filestored.socket", "LoadState") == ["not-found"]
    assert machine.fetch(PORT) == "ok\n"


@pytest.mark.long
def test_many_reloads_and_restarts_under_load(machine: Machine) -> None:
    install(machine, "--socket")
    with machine.load(PORT) as result:
        for _ in range(20):
            machine.do("systemctl", "reload", UNIT)
            machine.do("systemctl", "reset-failed", UNIT)  # so many starts in a minute are meant
            machine.do("systemctl", "restart", UNIT)
    assert result["failures"] == []


@pytest.mark.long
def test_master_that_is_killed_is_started_again(machine: Machine) -> None:
    install(machine)
    pid = machine.pid(UNIT)
    machine.do("kill", "-9", str(pid))
    until(lambda: machine.pid(UNIT) not in (0, pid))
    until(lambda: machine.show(UNIT, "ActiveState") == ["active"])
    assert machine.fetch(PORT) == "ok\n"
    assert machine.show(UNIT, "NRestarts") == ["1"]


def test_workers_that_are_killed_or_hang_are_replaced(machine: Machine) -> None:
    install(machine, "--stall-timeout=2")
    pid, before = machine.pid(UNIT), machine.workers(UNIT)
    victim, hung = sorted(before)
    machine.do("kill", "-9", str(victim))
    machine.do("kill", "-STOP", str(hung))
    until(lambda: len(machine.workers(UNIT) - before) == 2)
    assert f"worker {victim} was killed by SIGKILL" in journal(machine)
    assert f"worker {hung} is killed: its loop has not turned for 2 s" in journal(machine)
    assert machine.pid(UNIT) == pid
    assert machine.show(UNIT, "NRestarts") == ["0"]


@pytest.mark.long
def test_master_that_hangs_is_caught_by_the_watchdog(machine: Machine) -> None:
    install(machine)
    override = Path("/run/systemd/system") / f"{UNIT}.d"
    machine.do("mkdir", "-p", str(override))
    machine.ask("tee", f"{override}/short.conf", text="[Service]\nWatchdogSec=1\n")
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "restart", UNIT)
    pid = machine.pid(UNIT)
    machine.do("kill", "-STOP", str(pid))
    until(lambda: machine.pid(UNIT) not in (0, pid))
    until(lambda: machine.show(UNIT, "ActiveState") == ["active"])
    assert "Watchdog timeout" in journal(machine)
    machine.do("rm", "-r", str(override))
    machine.do("systemctl", "daemon-reload")


@pytest.mark.long
def test_new_code_that_does_not_start_costs_nothing(machine: Machine) -> None:
    install(machine)
    routes = machine.project / "httpd" / "app" / "routes.py"
    text = routes.read_text()
    workers = machine.workers(UNIT)
    try:
        routes.write_text("import no_such_module\n")
        failed = machine.ask("systemctl", "reload", UNIT)
        assert failed.returncode == 1
        reason = "ModuleNotFoundError: No module named 'no_such_module'"
        assert f"the daemon goes on as it was: {reason}" in journal(machine)
        assert f"the last reload failed: {reason}" in status(machine)
        assert machine.show(UNIT, "ActiveState") == ["active"]
        assert machine.workers(UNIT) == workers
    finally:
        routes.write_text(text)
    assert machine.fetch(PORT) == "ok\n"
    machine.do("systemctl", "reload", UNIT)
    assert "failed" not in status(machine)


@pytest.mark.long
def test_start_that_fails_says_why(machine: Machine) -> None:
    install(machine)
    taken = machine.setup("--service_name=other", f"--port={PORT}")
    assert taken.returncode == 1
    assert "the service does not start; above is why" in taken.stderr
    assert "Address already in use" in machine.do("journalctl", "--no-pager", "-u", "other")
    machine.do("systemctl", "stop", "other")
    assert machine.fetch(PORT) == "ok\n"


@pytest.mark.long
def test_two_services_with_a_privileged_port_and_a_store_of_their_own(machine: Machine) -> None:
    install(machine)
    done = machine.setup("--service_name=other", "--port=80", f"--store={PLACE}/my files")
    assert done.returncode == 0, done.stderr
    digest = machine.fetch(80, "/", "-d", "hello")
    assert machine.do("cat", f"{PLACE}/my files/{digest[:2]}/{digest}") == "hello"
    assert machine.do("stat", "-c", "%U", f"{PLACE}/my files").strip() == "other"
    machine.do("systemd-analyze", "security", "--offline=yes", "--threshold=15",
               "/etc/systemd/system/other.service")  # fmt: skip
    machine.do("rm", "-r", f"{PLACE}/my files")


def test_dry_run_changes_nothing(machine: Machine) -> None:
    done = machine.setup("--dry-run", "--socket", "--port=8300", "--user=someone")
    assert done.returncode == 0, done.stderr
    assert "+ systemctl enable --quiet filestored.service" in done.stdout
    assert "+ useradd --system" in done.stdout
    assert "    ListenStream=0.0.0.0:8300" in done.stdout
    assert "    User=someone" in done.stdout
    assert machine.ask("test", "-e", FILE).returncode == 1
    gone = machine.setup("--uninstall", "--dry-run")
    assert "there is no service filestored" in gone.stdout


WRONG = [
    (["--port=9x"], "--port: '9x' is not a whole number"),
    (["--nonsense=1"], "unrecognized arguments: --nonsense=1"),
    (["--service_name=../x"], "--service_name: '../x' is not of"),
    (["--service_name"], "--service_name needs a name"),
    (["--purge"], "--purge goes with --uninstall"),
    (["--uninstall", "--port=1"], "--uninstall takes no --port=1"),
    (["--socket", "--port=0"], "--port: systemd listens on no port that it may choose"),
    (["--log-dir=/x"], "--log-dir: the service logs to the journal"),
]


def test_wrong_option_is_refused_before_anything_is_done(machine: Machine) -> None:
    for arguments, reason in WRONG:
        done = machine.setup(*arguments)
        assert done.returncode == 2, arguments
        assert reason in done.stderr
    assert machine.ask("test", "-e", FILE).returncode == 1
    assert machine.ask("id", "filestored").returncode == 1


@pytest.mark.long
def test_code_that_the_service_could_not_read(machine: Machine) -> None:
    machine.do("chmod", "o-r", f"{PLACE}/main.py")
    done = machine.setup()
    machine.do("chmod", "o+r", f"{PLACE}/main.py")
    assert done.returncode == 1
    assert f"filestored could not read {PLACE}/main.py: chmod -R o+rX" in done.stderr
    assert machine.ask("test", "-e", FILE).returncode == 1


def test_every_directive_is_explained() -> None:
    """A comment stands above each, or above the group that it is in."""
    obvious = ("Description", "Documentation", "WantedBy")
    for name in ("unit.service", "unit.socket"):
        explained = False
        for line in (PROJECT / "httpd" / "process" / name).read_text().splitlines():
            if re.match(r"[A-Z]\w+=", line):
                assert explained or line.startswith(obvious), line
            explained = line.startswith("#") or (explained and bool(line))
