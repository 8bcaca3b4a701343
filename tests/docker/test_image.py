"""The image, built and run by a real engine."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.daemons import ANNOUNCEMENT, PATIENCE, PROJECT, until
from tests.docker.engine import LONGEST, Engine

pytestmark = pytest.mark.root

# As compose.yaml has it. Without a bridge the host's network stands in for a published port.
HARDENED = (
    "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true",
    "--tmpfs=/tmp:size=64m,mode=1777,noexec,nosuid,nodev", "--network=host",
    "--env=FILESTORED_HOST=127.0.0.1", "--env=FILESTORED_PORT=0", "--env=FILESTORED_WORKERS=2",
)  # fmt: skip
HELLO = "5d41402abc4b2a76b9719d911017c592"
_numbers = count()


class Container:
    """A running container, and requests to it."""

    def __init__(self, engine: Engine, container: str) -> None:
        """Take the id of one that has been started; return when it listens."""
        self.engine = engine
        self.id = container
        found = until(lambda: ANNOUNCEMENT.search(engine.logs(container)[0]), "it never listened")
        self.url = found[1]

    def request(self, method: str, target: str, **options: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + target, timeout=PATIENCE, **options)

    def state(self) -> dict[str, Any]:
        (told,) = json.loads(self.engine("inspect", self.id))
        state: dict[str, Any] = told["State"]
        return state


Start = Callable[..., Container]


@pytest.fixture
def volume() -> str:
    return f"files{next(_numbers)}"


@pytest.fixture
def start(engine: Engine, image: str, volume: str) -> Iterator[Start]:
    """Return what starts a container of the image."""
    assert image
    begun: list[str] = []

    def start(*options: str) -> Container:
        files = f"--volume={volume}:/data"
        begun.append(engine("run", "--detach", files, *HARDENED, *options, "filestored"))
        return Container(engine, begun[-1])

    yield start
    for container in begun:
        engine("rm", "--force", container)
    engine("volume", "rm", volume)


def test_it_serves_unprivileged_on_a_read_only_root(start: Start, engine: Engine) -> None:
    container = start()
    assert container.request("POST", "/", data=b"hello").text == HELLO
    assert container.request("GET", f"/?file_hash={HELLO}").content == b"hello"
    assert container.request("GET", "/readyz").status_code == 200
    assert container.request("POST", "/files/a.txt", data=b"hello").status_code == 201
    assert engine("exec", container.id, "id", "-u") == "9473"
    status = engine("exec", container.id, "cat", "/proc/1/status")
    assert re.search(r"CapEff:\s*0+\n", status)
    assert re.search(r"NoNewPrivs:\s*1\n", status)
    written = engine("diff", container.id)
    assert set(re.findall(r"^[AC] (\S+)$", written, re.MULTILINE)) <= {"/data", "/tmp"}


def test_requests_are_logged_to_stdout_and_the_rest_to_stderr(start: Start, engine: Engine) -> None:
    container = start("--env=FILESTORED_ACCESS_LOG=json")
    container.request("GET", f"/?file_hash={HELLO}", headers={"X-Request-Id": "abc-1"})
    until(lambda: '"request_id": "abc-1"' in engine.logs(container.id)[0])
    out, err = engine.logs(container.id)
    line = json.loads(out.splitlines()[-1])
    assert (line["status"], line["target"]) == (404, f"/?file_hash={HELLO}")
    assert "filestored 0.1.0 starts on" in err


def test_stop_drains_and_the_files_stay(start: Start, engine: Engine) -> None:
    first = start()
    first.request("POST", "/", data=b"hello")
    # A request that is under way when the container is told to stop.
    upload = requests.Session()
    upload.trust_env = False
    told = []

    def content() -> Iterator[bytes]:
        yield b"begun, "
        stopping = subprocess.Popen(
            ["docker", "stop", "--time=30", first.id], env=engine.env, stdout=subprocess.DEVNULL
        )
        told.append(stopping)
        until(lambda: "stopping when the requests" in engine.logs(first.id)[1])
        yield b"ended"

    reply = upload.post(first.url + "/", data=content(), timeout=PATIENCE)
    assert reply.status_code == 200
    assert told[0].wait(60) == 0
    assert (first.state()["ExitCode"], first.state()["OOMKilled"]) == (0, False)
    assert "filestored has stopped" in engine.logs(first.id)[1]
    second = start()
    for digest, expected in ((HELLO, b"hello"), (reply.text, b"begun, ended")):
        assert second.request("GET", f"/?file_hash={digest}").content == expected


def test_a_store_is_served_by_one_container_at_a_time(
    start: Start, engine: Engine, volume: str
) -> None:
    container = start()
    other = engine("run", "--detach", f"--volume={volume}:/data", *HARDENED, "filestored")
    assert engine("wait", other) == "1"
    assert "already running" in engine.logs(other)[1]
    engine("rm", other)
    assert container.request("GET", "/healthz").status_code == 200


def test_health_tells_whether_it_answers(start: Start, engine: Engine) -> None:
    container = start("--health-interval=1s", "--health-retries=1", "--health-timeout=10s")
    until(lambda: container.state()["Health"]["Status"] == "healthy")
    # The workers hang: they are there, and nobody answers.
    master, *workers = engine("exec", container.id, "sh", "-c", "cat /proc/[0-9]*/stat").split("\n")
    pids = [line.split()[0] for line in workers if line.split()[3] == "1"]
    assert master.startswith("1 ")
    engine("exec", container.id, "sh", "-c", f"kill -STOP {' '.join(pids)}")
    until(lambda: container.state()["Health"]["Status"] == "unhealthy")
    engine("kill", "--signal=KILL", container.id)


def test_commands_work_inside(start: Start, engine: Engine) -> None:
    container = start()
    container.request("POST", "/", data=b"hello")
    assert "filestored 0.1.0 runs, pid 1" in engine("exec", container.id, "filestored", "status")
    assert "no faults" in engine("exec", container.id, "filestored", "verify")
    engine("exec", container.id, "filestored", "reload")
    until(lambda: engine.logs(container.id)[1].count("2 workers serve") == 2)
    assert container.request("GET", f"/?file_hash={HELLO}").content == b"hello"


# The tests' engine has no networks of its own, so the port is not published but the host's.
PORTS = 'ports: ["127.0.0.1:9000:9000"]'
HOST = 'network_mode: host\n    environment: {FILESTORED_HOST: 127.0.0.1, FILESTORED_PORT: "0"}'


def test_compose_starts_it_hardened_and_keeps_the_files(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    text = (PROJECT / "compose.yaml").read_text()
    assert PORTS in text
    file = tmp_path / "compose.yaml"
    file.write_text(text.replace(PORTS, HOST))

    def compose(*line: str) -> str:
        done = subprocess.run(
            ["docker-compose", "--project-name=trial", f"--file={file}", *line],
            env=engine.env, capture_output=True, text=True, timeout=LONGEST, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert image == "filestored"  # the name that is in the file: it is not built again
    try:
        compose("up", "--detach", "--no-build")
        container = Container(engine, compose("ps", "-q"))
        assert container.request("POST", "/", data=b"hello").text == HELLO
        (told,) = json.loads(engine("inspect", container.id))
        host = told["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert list(host["Tmpfs"]) == ["/tmp"]
        assert [(mount["Type"], mount["Destination"]) for mount in told["Mounts"]] == [
            ("volume", "/data")
        ]
        compose("down")
        compose("up", "--detach", "--no-build")
        again = Container(engine, compose("ps", "-q"))
        assert again.request("GET", f"/?file_hash={HELLO}").content == b"hello"
    finally:
        compose("down", "--volumes")


def test_the_image_adds_little_to_its_base(engine: Engine, base: str, image: str) -> None:
    sizes = [int(engine("inspect", "--format={{.Size}}", name)) for name in (base, image)]
    assert sizes[1] - sizes[0] < 90e6
    assert engine("run", "--rm", "--entrypoint=sh", image, "-c", "ls /src || true") == ""


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [str(hadolint), str(PROJECT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
