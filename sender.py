#!/usr/bin/env python3
"""Send files and folders to a filestored server: ids or hashes on stdout, the rest on stderr.

A folder is walked in the order of its names, for its regular files. Symbolic links in it are not
followed (they may lead out of it, or in circles); one that is named as a path is. "-" is standard
input. Exit code: 0 all went up, 1 not all, 2 wrong usage, 130 interrupted. Certificates and
proxies come from the environment (REQUESTS_CA_BUNDLE, HTTPS_PROXY).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from io import FileIO
from math import inf
from random import uniform
from socket import MSG_PEEK
from stat import S_ISDIR, S_ISREG
from typing import Any, TextIO
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, SSLError
from tqdm import tqdm  # type: ignore[import-untyped]
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

STDIN = "-"
Found = tuple[str, int | None]  # a path and its size; None for a pipe or a device
ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "blake2b")  # what a server may name content by
LEAST = {"port": 1, "chunk_size": 1, "jobs": 1, "retries": 0, "timeout": 0.001, "backoff": 0}

# A smaller file is sent without asking whether the server has it: to ask takes a round trip and a
# read of the file, and in the time of a round trip over a common line its bytes are there.
OFFER_FROM = 1 << 20
CONTINUE_WAIT = 1.0  # seconds; RFC 9110 10.1.1 leaves it open, and curl waits as long
LONGEST_BACKOFF = 30.0  # seconds; by then the doubling has found an overloaded server's pace
LONGEST_PAUSE = 300.0  # seconds; a server that asks for more in Retry-After is as good as down
TOO_MANY_REQUESTS = 429  # RFC 6585 section 4: of all 4xx the one that waiting may lift
PASSING = (requests.ConnectionError, requests.Timeout, ChunkedEncodingError)
FAILED, INTERRUPTED = 1, 130  # exit codes; 130 is a shell's for death by SIGINT (128 + 2)

# Not visible ASCII, or in need of escapes; "%" is left out as RFC 6266 appendix D advises.
UNSAFE_IN_FILENAME = re.compile(r'[^ -~]|["\\%]')
ATTR_CHARS = "!#$&+-.^_`|~"  # what RFC 8187 3.2.1 leaves unencoded, beside letters and digits
TOKEN = re.compile(r"[!-~]+")  # what an id or a hash is made of: nothing that steers a terminal


# Options ------------------------------------------------------------------------------------------
def command_line() -> ArgumentParser:
    """Return what reads the command line."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--protocol", choices=("http", "https"), default="http", help="default: %(default)s")
    add("--host", default="localhost", help="default: %(default)s")
    add("--port", type=int, default=9000, help="default: %(default)s")
    add("--url", default="files/", help='"files/", the default, to get ids, "/" to get hashes')
    add("--chunk_size", type=int, default=65536, help="bytes to send at a time (%(default)s)")
    add("--path", action="append", default=[], help="a file, a folder or -; may be repeated")
    add("paths", nargs="*", metavar="path", help="more of them, sent after those of --path")
    add("--hash", choices=ALGORITHMS, default="md5", help="the server's hash (%(default)s)")
    add("--jobs", type=int, default=1, help="files to send at the same time (%(default)s)")
    add("--retries", type=int, default=3, help="how often to try a file again (%(default)s)")
    add("--timeout", type=float, default=60.0, help="seconds of silence to bear (%(default)s)")
    add("--backoff", type=float, default=0.5, help=SUPPRESS)
    add("--json", action="store_true", help="print a line of JSON for every file")
    add("--quiet", action="store_true", help="no progress bar and no notes; errors are still told")
    add("--no-check", dest="check", action="store_false", help="do not compare the server's hash")
    add("--no-skip", dest="skip", action="store_false", help="send what the server has, too")
    return parser


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Read the command line; exit with 2 where it is wrong."""
    parser = command_line()
    options = parser.parse_intermixed_args(arguments)
    options.paths = [*options.path, *options.paths]
    host = f"[{options.host}]" if ":" in options.host else options.host
    options.url = f"{options.url.strip('/')}/".lstrip("/")  # `POST /files` stores a file "files"
    options.skip &= options.protocol == "http"  # see Sender
    options.address = f"{options.protocol}://{host}:{options.port}/{options.url}"
    for name, least in LEAST.items():
        if not getattr(options, name) >= least:  # turned round, so that nan is refused as well
            parser.error(f"--{name} must be at least {least}")
    if not options.paths or options.paths.count(STDIN) > 1:
        parser.error("name at least one path, and standard input once at most")
    return options


# Sources ------------------------------------------------------------------------------------------
class Failure(Exception):
    """A file is not sent, and why."""


class Setback(Failure):
    """An attempt has failed in a way that may pass; the server asks for a `pause` (seconds)."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def find(path: str, options: Namespace, *, named: bool = True) -> Iterator[Found]:
    """Yield what is to be sent at or below `path`; `named`: by the user, not found in a folder."""
    try:
        status = os.stat(0 if path == STDIN else path, follow_symlinks=named)
        names = sorted(os.listdir(path)) if S_ISDIR(status.st_mode) else []
    except OSError:
        yield path, 0  # to open it will tell why it cannot be sent
        return
    if S_ISDIR(status.st_mode):
        for name in names:
            yield from find(os.path.join(path, name), options, named=False)
    elif S_ISREG(status.st_mode) or named:
        yield path, status.st_size if S_ISREG(status.st_mode) else None
    else:
        note(options, f"{path}: left out, it is a link or not a regular file")


class Content:
    """What an open file holds, on its way to the server: counted, hashed, watched for a change.

    `size` is None for a pipe or device, `sent` what was taken to be sent in this attempt;
    `expected` is the digest of a first reading, `digest` that of what was sent to its end.
    """

    def __init__(self, file: FileIO, options: Namespace, bar: tqdm) -> None:
        self._file, self._options, self._bar = file, options, bar
        self._start = file.tell() if file.seekable() else None
        self._status = os.fstat(file.fileno())
        regular = S_ISREG(self._status.st_mode)
        self.size = max(0, self._status.st_size - (self._start or 0)) if regular else None
        self.sent = 0
        self.expected: str | None = None
        self.digest: str | None = None

    def measure(self) -> None:
        """Read it for its digest, before anything is sent. Raises Failure."""
        for _ in self._read():
            pass
        self.expected = self.digest
        self.rewind()

    def pieces(self) -> Iterator[bytes]:
        """Yield what to send; raise Failure, and so leave the request unfinished, if it changes."""
        for piece in self._read():
            self.sent += len(piece)
            advance(self._bar, len(piece))
            yield piece

    def rewind(self) -> bool:
        """Go back to the beginning for another attempt; tell whether that can be done."""
        if self._start is not None:
            self._file.seek(self._start)
        elif self.sent:
            return False
        advance(self._bar, -self.sent)
        self.sent, self.digest = 0, self.expected
        return True

    def _read(self) -> Iterator[bytes]:
        left, self.digest = inf if self.size is None else self.size, None
        running = hashlib.new(self._options.hash, usedforsecurity=False)
        try:
            # Once it has grown it is not read on: it may grow faster than it can be sent.
            while left >= 0 and (piece := os.read(self._file.fileno(), self._options.chunk_size)):
                running.update(piece)
                left -= len(piece)
                yield piece
        except OSError as error:  # as such it would pass for one of the connection's
            raise Failure(f"cannot be read: {error.strerror}") from error
        then, now = self._status, os.fstat(self._file.fileno())
        if self.size is not None and (left or now.st_mtime_ns != then.st_mtime_ns):
            raise Failure(f"changed while it was read: {then.st_size} bytes, then {now.st_size}")
        self.digest = running.hexdigest()


# Transport ----------------------------------------------------------------------------------------
class _Withholding(HTTPConnection):
    """A connection that keeps a body back until the server asks for it (RFC 9110 10.1.1).

    urllib3 draws the first piece of a body when the head is out: that is the moment to wait. A
    body that is not wanted any more goes out as an empty one, which keeps the framing in order.
    """

    def request(self, *args: Any, **options: Any) -> None:
        if "Expect" in options["headers"]:
            options["body"] = self._once_wanted(options["body"])
        super().request(*args, **options)

    def _once_wanted(self, body: Iterable[bytes]) -> Iterator[bytes]:
        lead = b""
        self.sock.settimeout(CONTINUE_WAIT)
        with suppress(TimeoutError):  # then it is to be sent unasked
            lead = self.sock.recv(len("HTTP/1.1 100"), MSG_PEEK)
        self.sock.settimeout(self.timeout)
        if lead[9:10] in (b"", b"1"):
            yield from body


class _Adapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **options)
        if pool.ConnectionCls is HTTPConnection:  # and no proxy is spoken to by TLS
            pool.ConnectionCls = _Withholding
        return pool


class _Session(threading.local):  # one a thread: requests doesn't promise that they can share
    def __init__(self) -> None:
        self.http = requests.Session()
        self.http.mount("http://", _Adapter())


class Sender:
    """Sends files, from any number of threads.

    Content that the server may have is offered by its digest in a POST that waits for 100. To ask
    by `GET …&stat` would not do: only an upload keeps the content when its other owners delete it.
    Not over TLS, where a socket has no MSG_PEEK and mostly a proxy says 100 on its own account.
    """

    def __init__(self, options: Namespace, bar: tqdm) -> None:
        self._options, self._bar, self._session = options, bar, _Session()

    def send(self, found: Found) -> dict[str, Any]:
        """Send a file; return its result: the server's answer and more, or an `error`."""
        path, _ = found
        try:
            with FileIO(0 if path == STDIN else path, closefd=path != STDIN) as file:
                content = Content(file, self._options, self._bar)
                return {**self._deliver(path, content), "path": path, "sent": content.sent}
        except (OSError, Failure) as error:
            return {"path": path, "error": getattr(error, "strerror", None) or str(error)}

    def _deliver(self, path: str, content: Content) -> dict[str, Any]:
        if self._options.skip and (content.size or 0) >= OFFER_FROM:
            content.measure()
        for retry in range(self._options.retries):
            try:
                return self._attempt(path, content)
            except Setback as setback:
                if not content.rewind():
                    raise Failure(f"{setback}; what came from a pipe can't be sent again") from None
                longest = min(LONGEST_BACKOFF, self._options.backoff * 2.0 ** min(retry, 99))
                pause = setback.pause + uniform(0, longest)  # clients of one failure spread out
                note(self._options, f"{path}: {setback}; again in {pause:.1f} s")
                time.sleep(pause)
        return self._attempt(path, content)

    def _attempt(self, path: str, content: Content) -> dict[str, Any]:
        response = self._post(path, content)
        if not 200 <= response.status_code < 300:
            raise refusal(response)
        if content.digest is None:
            raise Failure("the server answered before it had all of it")
        if not content.sent:
            advance(self._bar, content.size or 0)  # the server had it
        answer = read_answer(response, content.digest, by_hash=not self._options.url)
        return {**answer, "checked": self._options.check and self._check(path, answer, content)}

    def _post(self, path: str, content: Content) -> requests.Response:
        headers = {"Accept": "application/json, text/plain;q=0.9", **disposition(path)}
        if content.expected is not None:
            headers["Expect"] = "100-continue"
        try:
            return self._session.http.post(
                self._options.address,
                params={"file_hash": content.expected},  # None leaves it out
                data=content.pieces(),  # of no known length, so it goes out chunked
                headers=headers,
                timeout=self._options.timeout,
                allow_redirects=False,  # it would go on as a GET, or need the content once more
            )
        except requests.RequestException as error:
            # A certificate's error is a ConnectionError too, but no time mends it.
            passing = isinstance(error, PASSING) and not isinstance(error, SSLError)
            raise (Setback if passing else Failure)(innermost(error)) from error

    def _check(self, path: str, answer: dict[str, Any], content: Content) -> bool:
        """Tell whether the server's hash could be compared; raise Failure where it is another."""
        own, told = self._options.hash, answer.get("file_hash")
        if told is None:
            note(self._options, f"{path}: not checked, the server tells no hash")
        elif (algorithm := answer.get("algorithm", own)) != own:
            raise Failure(f"stored, but not checked: the server hashes by {algorithm}, see --hash")
        elif told != content.digest:
            raise Failure(f"the server has other bytes: {told}, and {content.digest} was sent")
        return told is not None


def disposition(path: str) -> dict[str, str]:
    """Return the Content-Disposition with a file's name (RFC 6266 4.3, RFC 8187 3.2), if any."""
    name = os.fsencode(os.path.basename(path)).decode(errors="replace")  # may not be UTF-8
    plain, exact = UNSAFE_IN_FILENAME.sub("_", name), quote(name, safe=ATTR_CHARS)
    value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
    return {} if path == STDIN else {"Content-Disposition": value}


def refusal(response: requests.Response) -> Failure:
    """Return the error that a response of no success tells of, a Setback where it may pass."""
    status = response.status_code
    try:
        detail = response.json()["detail"]  # RFC 9457
    except (ValueError, TypeError, KeyError):
        detail = response.headers.get("Location") or response.text.strip().partition("\n")[0][:200]
    reason = f"{status} {response.reason}: {detail}".rstrip(": ")
    if status == TOO_MANY_REQUESTS or status >= 500:
        return Setback(reason, asked_pause(response.headers.get("Retry-After", "0"), time.time()))
    return Failure(reason)


def innermost(error: BaseException) -> str:
    """Return what has gone wrong at first; requests wraps it in words for programmers."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error)


def asked_pause(value: str, now: float) -> float:
    """Return the seconds that Retry-After asks for (RFC 9110 10.2.3); `now` since the epoch."""
    try:
        date = None if value.isdecimal() else parsedate_to_datetime(value)
    except ValueError:
        return 0.0  # it is not understood
    return min(max(0.0, date.timestamp() - now if date else float(value)), LONGEST_PAUSE)


def read_answer(response: requests.Response, digest: str, *, by_hash: bool) -> dict[str, Any]:
    """Return the server's JSON object, or what a plain answer would be as one. Raises Failure."""
    text = response.text.strip()
    is_json = "json" in response.headers.get("Content-Type", "")
    with suppress(ValueError, AttributeError):  # no JSON, no object
        plain = {"file_hash" if by_hash or text == digest else "id": text}
        answer: dict[str, Any] = response.json() if is_json else plain
        if TOKEN.fullmatch(str(answer.get("id") or answer.get("file_hash") or "")):
            return answer
    raise Failure(f"the answer is not understood: {text[:80]!r}")


# Progress and result ------------------------------------------------------------------------------
def advance(bar: tqdm, count: int) -> None:
    """Move the bar on by `count` bytes, or back; from any thread."""
    with bar.get_lock():
        bar.update(count)


def tell(line: str, file: TextIO) -> None:
    """Print a line beside the bar; nothing in it steers the terminal."""
    tqdm.write("".join(each if each.isprintable() else "?" for each in line), file=file)
    file.flush()


def note(options: Namespace, line: str) -> None:
    """Tell on stderr what a person may like to know."""
    if not options.quiet:
        tell(f"sender: {line}", sys.stderr)


def report(result: dict[str, Any], *, as_json: bool) -> bool:
    """Tell what has become of a file; return whether it is stored."""
    if "error" in result:
        tell(f"sender: {result['path']}: {result['error']}", sys.stderr)
    if as_json:
        tell(json.dumps(result), sys.stdout)
    elif "error" not in result:
        tell(str(result.get("id") or result["file_hash"]), sys.stdout)
    return "error" not in result


def run(options: Namespace) -> int:
    """Send all files, and report on them in their order; return the exit code."""
    files = [file for path in options.paths for file in find(path, options)]
    sizes = [size for _, size in files]
    total = None if None in sizes else sum(filter(None, sizes))  # of a pipe nobody knows the end
    hidden = options.quiet or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=hidden) as bar:
        results = ThreadPoolExecutor(options.jobs).map(Sender(options, bar).send, files)
        stored = [report(result, as_json=options.json) for result in results]
    return 0 if all(stored) else FAILED


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    try:
        return run(parse(arguments))
    except (KeyboardInterrupt, BrokenPipeError) as error:  # the latter: nobody reads stdout
        # A thread that waits for the server can't be woken: leave without it. Every line is out.
        os._exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED)


if __name__ == "__main__":
    sys.exit(main())
