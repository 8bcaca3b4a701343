"""The uploader: against a server that errs as it is told to, and against the real daemon."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pty
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sender
from httpd.protocol.disposition import filename_of
from tests.daemons import PATIENCE, PROJECT, Daemon, until

SCRIPT = PROJECT / "sender.py"
PHOTO = b"\xff\xd8 not really a photo"
JSON = ("Content-Type", "application/json")
BIG = bytes(range(256)) * 16 * 1024  # 4 MiB: more than the buffers of a connection hold at once


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# A server that errs as it is told to


class Act:
    """What the server does with one request; by default it answers like a daemon's door by id."""

    def expected(self, handler: Handler) -> bool:
        """Answer `Expect: 100-continue`; tell whether the body follows."""
        handler.send_response_only(100)
        handler.end_headers()
        return True

    def answer(self, handler: Handler) -> None:
        body = handler.receive()
        receipt = {"id": f"id-{md5(body)}", "file_hash": md5(body), "algorithm": "md5"}
        handler.reply(201, json.dumps(receipt), [JSON])


class Reply(Act):
    """Take the body and answer so."""

    def __init__(self, status: int, text: str, *fields: tuple[str, str]) -> None:
        self.reply = (status, text, fields)

    def answer(self, handler: Handler) -> None:
        handler.receive()
        handler.reply(*self.reply)


class Unasked(Reply):
    """Answer a client that waits for 100, without its body."""

    def expected(self, handler: Handler) -> bool:
        handler.reply(*self.reply)
        return False


class Doing(Act):
    """Do something before the body is asked for."""

    def __init__(self, deed: Callable[[], object]) -> None:
        self.deed = deed

    def expected(self, handler: Handler) -> bool:
        self.deed()
        return super().expected(handler)


class Ignorant(Act):
    """Know nothing of 100-continue."""

    def expected(self, handler: Handler) -> bool:
        return True


class Reset(Act):
    """Break the connection off in mid-body, with or without a word."""

    def __init__(self, last_words: str = "") -> None:
        self.last_words = last_words

    def answer(self, handler: Handler) -> None:
        handler.rfile.read(8)
        if self.last_words:
            handler.reply(200, self.last_words)
        # Closing at once and with an error (socket(7), SO_LINGER of no seconds).
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()


class Silence(Act):
    """Take the body and never answer."""

    def answer(self, handler: Handler) -> None:
        handler.receive()
        handler.server.over.wait(PATIENCE)
        handler.close_connection = True


class Last(Act):
    """Answer this request only when so many have come."""

    def __init__(self, count: int) -> None:
        self.count = count

    def answer(self, handler: Handler) -> None:
        until(lambda: len(handler.server.seen) >= self.count, "the others have not come")
        super().answer(handler)


class Seen:
    """A request as it has come."""

    def __init__(self, target: str, fields: dict[str, str]) -> None:
        self.target, self.fields = target, fields
        self.body: bytes | None = None  # until it is complete


class Server(ThreadingHTTPServer):
    """Goes through its acts, one a request, and then on with the default."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts: list[Act] = []
        self.seen: list[Seen] = []
        self.over = threading.Event()

    def bodies(self) -> list[bytes | None]:
        return [seen.body for seen in self.seen]

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a client that breaks off is part of the play."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_expect_100(self) -> bool:
        self.begin()
        if self.act.expected(self):
            return True
        self.close_connection = True
        return False

    def begin(self) -> None:
        self.seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()})
        self.act = self.server.acts.pop(0) if self.server.acts else Act()
        self.server.seen.append(self.seen)

    def do_POST(self) -> None:
        if "Expect" not in self.headers:
            self.begin()
        self.act.answer(self)

    def receive(self) -> bytes:
        assert self.headers["Transfer-Encoding"] == "chunked"
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            assert self.rfile.readline() == b"\r\n"
        self.rfile.readline()
        self.seen.body = b"".join(pieces)
        return self.seen.body

    def reply(self, status: int, text: str, fields: Any = ()) -> None:
        self.send_response(status)
        for name, value in (*fields, ("Content-Length", str(len(text.encode())))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


class Outcome(NamedTuple):
    code: int
    out: list[str]
    err: str

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out]


Send = Callable[..., Outcome]


@pytest.fixture
def send(
    server: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Send:
    """Run the sender in this process, against the server unless another port is given.

    It waits for 100 for as long as that takes on a busy machine.
    """
    monkeypatch.setattr(sender, "CONTINUE_WAIT", PATIENCE)

    def run(*arguments: object) -> Outcome:
        line = ["--host=127.0.0.1", f"--port={server.server_port}", "--backoff=0"]
        code = sender.main([*line, *map(str, arguments)])
        out, err = capfd.readouterr()
        return Outcome(code, out.splitlines(), err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    return path


@pytest.fixture
def offering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are worth an offer, too."""
    monkeypatch.setattr(sender, "OFFER_FROM", 1)


def script(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), "--host=127.0.0.1", "--backoff=0", *map(str, arguments)]


# What goes up, and what is said of it


def test_file_goes_up_chunked_with_its_name(server: Server, send: Send, photo: Path) -> None:
    assert send("--path", photo) == Outcome(0, [f"id-{md5(PHOTO)}"], "")
    (seen,) = server.seen
    assert (seen.target, seen.body) == ("/files/", PHOTO)
    assert seen.fields["transfer-encoding"] == "chunked"
    assert "content-length" not in seen.fields
    assert filename_of(seen.fields["content-disposition"]) == "photo.jpg"
    assert seen.fields["accept"].startswith("application/json")


@pytest.mark.parametrize("content", [b"", b"x", BIG], ids=len)
@pytest.mark.parametrize("size", ["1_000", "65536"])
def test_content_of_any_size(
    server: Server, send: Send, photo: Path, content: bytes, size: str
) -> None:
    photo.write_bytes(content)
    assert send("--chunk_size", size, photo).code == 0
    assert server.bodies() == [content]


@pytest.mark.parametrize(
    ("file", "plain", "exact"),
    [
        ("photo.jpg", "photo.jpg", "photo.jpg"),
        ("folder/photo.jpg", "photo.jpg", "photo.jpg"),
        ("a b;c=d.txt", "a b;c=d.txt", "a b;c=d.txt"),
        ('say "hi"\\.txt', "say _hi__.txt", 'say "hi"\\.txt'),
        ("100%.txt", "100_.txt", "100%.txt"),
        ("Käse, 茶.txt", "K_se, _.txt", "Käse, 茶.txt"),
        ("two\nlines", "two_lines", "two\nlines"),
        (os.fsdecode(b"latin-\xe9"), "latin-_", "latin-\ufffd"),
    ],
)
def test_name_is_sent_in_both_forms(file: str, plain: str, exact: str) -> None:
    value = sender.disposition(file)["Content-Disposition"]
    assert filename_of(value) == exact
    assert filename_of(value.partition("; filename*=")[0]) == plain


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], "http://localhost:9000/files/"),
        (["--url=/"], "http://localhost:9000/"),
        (["--url="], "http://localhost:9000/"),
        (["--url=/files", "--protocol=https"], "https://localhost:9000/files/"),
        (["--host=::1", "--port=80"], "http://[::1]:80/files/"),
        (["--host=files.example", "--url=store/files/"], "http://files.example:9000/store/files/"),
    ],
)
def test_address(arguments: list[str], address: str) -> None:
    assert sender.parse([*arguments, "a"]).address == address


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--port=0", "a"],
        ["--chunk_size=0", "a"],
        ["--jobs=0", "a"],
        ["--retries=-1", "a"],
        ["--timeout=nan", "a"],
        ["--protocol=ftp", "a"],
        ["--hash=crc32", "a"],
        ["-", "-"],
        ["--no-such-option", "a"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        sender.main(arguments)
    assert left.value.code == 2


@pytest.mark.parametrize(
    ("url", "answer", "printed", "checked"),
    [
        ("/", md5(PHOTO), md5(PHOTO), True),
        ("/", f"{md5(PHOTO)}\n", md5(PHOTO), True),
        ("files/", "0b6d-1f", "0b6d-1f", False),
        ("files/", md5(PHOTO), md5(PHOTO), True),
    ],
)
def test_plain_answers(
    server: Server, send: Send, photo: Path, url: str, answer: str, printed: str, *, checked: bool
) -> None:
    server.acts = [Reply(200, answer)] * 2
    outcome = send("--url", url, photo)
    assert (outcome.code, outcome.out) == (0, [printed])
    assert ("not checked" in outcome.err) is not checked
    (result,) = send("--url", url, "--json", "--quiet", photo).results()
    assert (result["path"], result["sent"], result["checked"]) == (str(photo), len(PHOTO), checked)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("<p>It works!</p>", []),
        ("\x1b[2Jcleared", []),
        ("{broken", [JSON]),
        ("[1,2]", [JSON]),
        ('{"size":3}', [JSON]),
    ],
)
def test_answers_that_say_nothing(
    server: Server, send: Send, photo: Path, text: str, fields: list[tuple[str, str]]
) -> None:
    server.acts = [Reply(200, text, *fields)]
    outcome = send(photo)
    assert (outcome.code, outcome.out) == (1, [])
    assert "is not understood" in outcome.err
    assert outcome.err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        ({"id": "1", "file_hash": md5(b"other")}, f"other bytes: {md5(b'other')}"),
        ({"id": "1", "file_hash": "00", "algorithm": "sha256"}, "hashes by sha256, see --hash"),
    ],
)
def test_hash_is_checked(
    server: Server, send: Send, photo: Path, receipt: dict[str, str], said: str
) -> None:
    server.acts = [Reply(201, json.dumps(receipt), JSON)] * 2
    outcome = send(photo)
    assert (outcome.code, outcome.out) == (1, [])
    assert said in outcome.err
    assert len(server.seen) == 1  # sent again it would be no better
    assert send("--no-check", photo) == Outcome(0, ["1"], "")


# Failures that pass, and failures that do not


@pytest.mark.parametrize(
    "act",
    [*(Reply(status, "wait") for status in (429, 500, 502, 503, 507)), Reset()],
    ids=["429", "500", "502", "503", "507", "reset"],
)
def test_what_passes_is_tried_again(server: Server, send: Send, photo: Path, act: Act) -> None:
    photo.write_bytes(BIG)
    server.acts = [act]
    outcome = send("--no-skip", photo)
    assert (outcome.code, outcome.out) == (0, [f"id-{md5(BIG)}"])
    assert "again in 0.0 s" in outcome.err
    assert server.bodies()[1:] == [BIG]


def test_silence_is_tried_again(server: Server, send: Send, photo: Path) -> None:
    server.acts = [Silence()]
    outcome = send("--timeout=0.5", "--retries=40", photo)
    assert (outcome.code, outcome.out) == (0, [f"id-{md5(PHOTO)}"])
    assert "again in 0.0 s" in outcome.err
    assert server.bodies().count(PHOTO) > 1


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (Reply(400, "no such door\nand more"), "400 Bad Request: no such door"),
        (Reply(413, '{"detail": "too large"}', JSON), "413 Request Entity Too Large: too large"),
        (Reply(404, ""), "404 Not Found"),
        (Reply(307, "", ("Location", "/b")), "307 Temporary Redirect: /b"),
    ],
)
def test_refusals_are_final(server: Server, send: Send, photo: Path, act: Act, said: str) -> None:
    server.acts = [act]
    assert send(photo) == Outcome(1, [], f"sender: {photo}: {said}\n")
    assert len(server.seen) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_patience_ends(server: Server, send: Send, photo: Path, retries: int) -> None:
    server.acts.extend([Reply(503, "draining")] * 9)
    outcome = send("--quiet", f"--retries={retries}", photo)
    assert outcome == Outcome(1, [], f"sender: {photo}: 503 Service Unavailable: draining\n")
    assert len(server.seen) == 1 + retries


def test_nobody_listens(send: Send, photo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = send(f"--port={port}", "--retries=1", photo)
    assert (outcome.code, outcome.out) == (1, [])
    again, last = outcome.err.splitlines()
    assert again == f"sender: {photo}: Connection refused; again in 0.0 s"
    assert last == f"sender: {photo}: Connection refused"


def test_early_success_is_none(server: Server, send: Send, photo: Path) -> None:
    photo.write_bytes(BIG)
    server.acts = [Reset(last_words="0b6d-1f")]
    outcome = send("--no-skip", photo)
    assert (outcome.code, outcome.out) == (1, [])
    assert "answered before it had all of it" in outcome.err


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("86400", sender.LONGEST_PAUSE),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-1", 0.0),
    ],
)
def test_asked_pause(value: str, seconds: float) -> None:
    assert sender.asked_pause(value, now=1000.0) == seconds


def test_pauses(server: Server, send: Send, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("sender.time.sleep", pauses.append)
    monkeypatch.setattr("sender.uniform", lambda _, high: high)
    server.acts += [Reply(503, "", ("Retry-After", "100")), *[Reply(503, "")] * 7]
    assert send("--backoff=0.5", "--retries=8", photo).code == 0
    assert pauses == [100.5, 1, 2, 4, 8, 16, 30, 30]


# Sources


def test_folders_and_several_paths(send: Send, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("b.txt", "a/2.txt", "a/1.txt", "c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "a/circle").symlink_to(folder)
    (folder / "link").symlink_to("b.txt")
    os.mkfifo(folder / "pipe")
    outcome = send(folder / "link", "--json", "--path", folder)
    names = ["a/1.txt", "a/2.txt", "b.txt", "c", "link"]
    assert [result["path"] for result in outcome.results()] == [f"{folder}/{n}" for n in names]
    assert outcome.results()[-1]["file_hash"] == md5(b"b.txt")
    for name in ("a/circle", "link", "pipe"):
        assert f"{folder}/{name}: left out" in outcome.err
    assert outcome.code == 0


def test_what_cannot_be_sent_stops_nothing(
    server: Server, send: Send, photo: Path, tmp_path: Path
) -> None:
    # Reading this one fails, for everyone, with EIO: nothing is mapped at its beginning.
    paths = [tmp_path / "gone", "/proc/self/mem", photo]
    outcome = send("--json", *paths)
    gone, broken, sent = outcome.results()
    assert gone == {"path": f"{tmp_path}/gone", "error": "No such file or directory"}
    assert broken == {"path": "/proc/self/mem", "error": "cannot be read: Input/output error"}
    assert sent["file_hash"] == md5(PHOTO)
    assert outcome.code == 1
    assert outcome.err.count("sender: ") == 2
    # The server may learn of the broken one later than of the next, on a connection of its own.
    assert [body for body in server.bodies() if body is not None] == [PHOTO]


@pytest.mark.parametrize("change", [b"much longer than it has been before", b"less", PHOTO[::-1]])
@pytest.mark.usefixtures("offering")
def test_changing_file_is_not_stored(
    server: Server, send: Send, photo: Path, tmp_path: Path, change: bytes
) -> None:
    def overwrite() -> None:
        photo.write_bytes(change)
        os.utime(photo, (1, 1))  # a clock tick may be longer than this test

    (tmp_path / "other").write_bytes(b"other")
    server.acts = [Doing(overwrite)]
    outcome = send(photo, tmp_path / "other")
    assert (outcome.code, outcome.out) == (1, [f"id-{md5(b'other')}"])
    assert f"changed while it was read: {len(PHOTO)} bytes, then {len(change)}" in outcome.err
    assert server.bodies() == [None, b"other"]


def test_jobs_run_together_and_are_told_in_order(
    server: Server, send: Send, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    server.acts = [Last(3), Last(2), Act()]
    outcome = send("--jobs=3", *paths)
    assert outcome == Outcome(0, [f"id-{md5(path.name.encode())}" for path in paths], "")


def test_standard_input(server: Server, photo: Path) -> None:
    line = script(f"--port={server.server_port}", "-")
    server.acts = [Act(), Reply(503, "busy"), Reply(503, "busy")]
    piped = subprocess.run(line, input=PHOTO, capture_output=True, check=True)
    assert piped.stdout.decode() == f"id-{md5(PHOTO)}\n"
    assert "content-disposition" not in server.seen[0].fields
    failed = subprocess.run(line, input=PHOTO, capture_output=True, check=False)
    assert failed.returncode == 1
    assert b"busy; what came from a pipe can't be sent again" in failed.stderr
    with photo.open("rb", buffering=0) as file:
        file.read(4)  # who redirects may have read some of it
        again = subprocess.run(line, stdin=file, capture_output=True, check=True)
    assert b"busy; again" in again.stderr
    assert server.bodies() == [PHOTO, PHOTO, PHOTO[4:], PHOTO[4:]]


# Content that the server has


def test_known_content_is_not_sent(server: Server, send: Send, photo: Path) -> None:
    photo.write_bytes(BIG)
    receipt = json.dumps({"id": "1", "file_hash": md5(BIG)})
    server.acts = [Unasked(503, "draining"), Unasked(201, receipt, JSON)]
    (result,) = send("--json", photo).results()
    assert (result["id"], result["sent"], result["checked"]) == ("1", 0, True)
    assert [seen.target for seen in server.seen] == [f"/files/?file_hash={md5(BIG)}"] * 2
    assert server.bodies() == [None, None]


@pytest.mark.parametrize("act", [Act(), Ignorant()], ids=["100", "silence"])
def test_unknown_content_is_sent(
    server: Server, send: Send, photo: Path, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "CONTINUE_WAIT", 0.01)
    photo.write_bytes(BIG)
    server.acts = [act]
    assert send(photo).out == [f"id-{md5(BIG)}"]
    assert server.bodies() == [BIG]
    assert server.seen[0].fields["expect"] == "100-continue"


@pytest.mark.parametrize(
    ("content", "option"), [(BIG, "--no-skip"), (PHOTO, "--quiet")], ids=["told", "small"]
)
def test_nothing_is_offered(
    server: Server, send: Send, photo: Path, content: bytes, option: str
) -> None:
    photo.write_bytes(content)
    assert send(option, photo).code == 0
    assert server.seen[0].target == "/files/"
    assert "expect" not in server.seen[0].fields


# TLS


@pytest.fixture
def certificate(server: Server, tmp_path: Path) -> Path:
    """Make the server speak TLS by a certificate of its own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is missing")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    line += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    line += f" -keyout {key} -out {certificate}"
    subprocess.run(line.split(), capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return certificate


def test_https(
    server: Server, send: Send, photo: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.write_bytes(BIG)
    stranger = send("--protocol=https", photo)
    assert (stranger.code, stranger.out) == (1, [])
    assert "certificate verify failed" in stranger.err
    assert "again" not in stranger.err
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert send("--protocol=https", photo) == Outcome(0, [f"id-{md5(BIG)}"], "")
    assert server.bodies() == [BIG]


# The process: its terminal, its end


def on_terminal(*arguments: object) -> tuple[str, bytes]:
    """Run the script with a terminal for its stderr; return its stdout and what is on it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # without a width there is no place for a bar
    process = subprocess.Popen(script(*arguments), stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 65536):
            screen += piece
    except OSError:  # EIO: nobody has the other side open any more, pty(7)
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, screen
    return out, screen


def test_progress_is_for_terminals(server: Server, photo: Path) -> None:
    photo.write_bytes(BIG)
    port, out = f"--port={server.server_port}", f"id-{md5(BIG)}\n"
    told, screen = on_terminal(port, photo)
    assert told == out
    assert b"100%" in screen
    assert b"4.00M/4.00M" in screen
    assert b"B/s]" in screen
    assert on_terminal(port, "--quiet", photo) == (out, b"")
    done = subprocess.run(script(port, photo), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (out, "")


def test_interrupt(server: Server, photo: Path) -> None:
    server.acts = [Silence()]
    line = script(f"--port={server.server_port}", photo)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: server.bodies() == [PHOTO], "the upload has begun")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == 130


def test_nobody_reads_the_results(server: Server, photo: Path) -> None:
    line = script(f"--port={server.server_port}", photo)
    unread, out = os.pipe()
    os.close(unread)
    done = subprocess.run(line, stdout=out, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")


def test_script_can_be_taken_elsewhere() -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert foreign == {"requests", "urllib3", "tqdm"}  # requests comes with urllib3


# The real daemon


@pytest.fixture
def upload(daemon: Daemon, send: Send) -> Send:
    """Send to the daemon's door by hash; get the results."""
    daemon.start()
    return lambda *arguments: send(f"--port={daemon.port}", "--url=/", "--json", *arguments)


def test_daemon_stores_a_folder(daemon: Daemon, upload: Send, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    contents = [bytes([number]) * number**5 for number in range(20)]
    for number, content in enumerate(contents):
        (folder / f"{number:02}").write_bytes(content)
    outcome = upload("--jobs=4", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert [result["file_hash"] for result in outcome.results()] == list(map(md5, contents))
    for content in contents:
        digest = md5(content)
        assert (daemon.store / digest[:2] / digest).read_bytes() == content


def test_daemon_is_not_sent_what_it_has(upload: Send, photo: Path) -> None:
    photo.write_bytes(BIG)
    rounds = [upload(photo), upload(photo), upload("--no-skip", photo)]
    results = [outcome.results()[0] for outcome in rounds]
    assert [result["created"] for result in results] == [True, False, False]
    assert [result["sent"] for result in results] == [len(BIG), 0, len(BIG)]
    assert {(result["file_hash"], result["checked"]) for result in results} == {(md5(BIG), True)}


def test_daemon_of_another_hash(daemon: Daemon, send: Send, photo: Path) -> None:
    daemon.start("--hash=sha256")
    line = (f"--port={daemon.port}", "--url=/", photo)
    assert send("--hash=sha256", *line).out == [hashlib.sha256(PHOTO).hexdigest()]
    assert "hashes by sha256, see --hash" in send(*line).err
