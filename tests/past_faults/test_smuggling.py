"""Requests in requests: every advisory since 2019 on how a Python server took one for two."""

from __future__ import annotations

import pytest

from tests import raw
from tests.past_faults.attacks import (
    CODING,
    DIGEST,
    HELLO,
    HIDDEN,
    VICTIM,
    Attack,
    answers,
    chunked,
    length,
    sized,
)
from tests.service import Service

ZERO = b"0\r\n\r\n"
TAIL = ZERO + HIDDEN

GUNICORN = [
    Attack("SNYK-PYTHON-GUNICORN-541164 length and coding",
           "with both fields the length could win, and the chunks' rest became a request",
           sized(TAIL, "Content-Length: 5", CODING), [400]),
    Attack("CVE-2024-1135 GHSA-w3h3-4rj7-4ph4 conflicting codings",
           "several codings were read as chunked, whichever came last",
           sized(TAIL, CODING, "Transfer-Encoding: identity", length(TAIL)), [400]),
    Attack("CVE-2024-1135 GHSA-w3h3-4rj7-4ph4 chunked is not the last",
           "several codings were read as chunked, whichever came last",
           sized(TAIL, "Transfer-Encoding: chunked, gzip"), [400]),
    Attack("CVE-2024-6827 GHSA-hc5x-x2vx-497g unknown coding falls back",
           "a coding that was not understood left the length to decide",
           sized(b"hello" + HIDDEN, "Transfer-Encoding: cow", "Content-Length: 5"), [400]),
    *(Attack(f"gunicorn #3364 coding padded with {ord(pad):02x}",
             "white space that is none in HTTP was stripped from the coding",
             sized(TAIL, f"Transfer-Encoding: {pad}chunked{pad}"), [400])
      for pad in "\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"),
    Attack("gunicorn 25.3.0 bare CR in a chunk extension",
           "a CR without LF passed within an extension",
           chunked(b"5;a\rb\r\nhello\r\n" + TAIL), [400]),
    Attack("CVE-2026-134820 padded name of the coding",
           "space around the names of framing fields was taken off",
           sized(TAIL, "Content-Length: 5", "Transfer-Encoding : chunked"), [400]),
    Attack("CVE-2026-134820 padded name of the length",
           "space around the names of framing fields was taken off",
           sized(HIDDEN, f"Content-Length : {len(HIDDEN)}", line="GET /healthz"), [400]),
    Attack("CVE-2026-134820 signed length",
           "a length with a sign was one",
           sized(b"hello" + HIDDEN, "Content-Length: +5"), [400]),
    Attack("CVE-2026-134820 invalid end of a chunk",
           "what stands behind a chunk's data was not looked at",
           chunked(b"5\r\nhelloXX" + TAIL), [400]),
]  # fmt: skip

WAITRESS = [
    Attack("CVE-2019-16785 GHSA-pg36-wpm5-g57p bare LF",
           "an LF alone ended a field line",
           sized(HIDDEN, f"X: y\n{length()}", line="GET /healthz"), [400]),
    Attack("CVE-2019-16786 GHSA-g2xc-35jw-c63p coding in a list",
           "only exactly `chunked` counted, and with anything else the length did",
           sized(b"hello" + HIDDEN, "Transfer-Encoding: identity, chunked", "Content-Length: 5"),
           [400]),
    Attack("CVE-2019-16786 GHSA-g2xc-35jw-c63p folded coding",
           "a coding on a continuation line was not seen",
           sized(b"hello" + HIDDEN, "Transfer-Encoding:", " chunked", "Content-Length: 5"), [400]),
    Attack("CVE-2019-16789 GHSA-m5ff-3wj3-8ph4 vertical tab before the coding",
           "white space that is none in HTTP was stripped from values",
           sized(b"hello" + HIDDEN, "Transfer-Encoding: \x0bchunked", "Content-Length: 5"), [400]),
    Attack("CVE-2019-16789 GHSA-968f-66r5-5v74 control character in a name",
           "white space that is none in HTTP was stripped from names",
           sized(b"hello" + HIDDEN, "Transfer-Encoding\x1f: chunked", "Content-Length: 5"), [400]),
    Attack("CVE-2019-16792 GHSA-4ppp-gpcr-7qf6 length sent twice",
           "two lengths were joined to a list, which was no number and counted as none",
           sized(HIDDEN, length(), length(), line="GET /healthz"), [400]),
    Attack("CVE-2022-24761 GHSA-4f7p-27jc-3c36 length with a sign",
           "what Python takes for a number was a length",
           sized(b"0123456789" + HIDDEN, "Content-Length: +10"), [400]),
    Attack("CVE-2022-24761 GHSA-4f7p-27jc-3c36 chunk size with a prefix",
           "what Python takes for a hexadecimal number was a size",
           chunked(b"0x5\r\nhello\r\n" + TAIL), [400]),
    Attack("CVE-2022-24761 GHSA-4f7p-27jc-3c36 invalid chunk extension",
           "extensions were passed over without a look",
           chunked(b"5;\x00\x0a\r\nhello\r\n" + TAIL), [400]),
    Attack("CVE-2024-49768 GHSA-9298-4cf8-g4wj good request behind a bad one",
           "what was received together with a refused request was still served",
           sized(HIDDEN, "X" * 4050, line="GET /healthz"), [400]),
]  # fmt: skip

AIOHTTP = [
    Attack("CVE-2023-37276 GHSA-45c4-8wx5-qw6w CR as a line end",
           "its parser, llhttp, took a CR alone for the end of a field line",
           sized(TAIL, "X-Abc: \rxTransfer-Encoding: chunked", "Content-Length: 5"), [400]),
    *(Attack(f"CVE-2023-47627 GHSA-gfw2-4jvh-wgfg length {value}",
             "what Python takes for a number was a length",
             sized(b"hello" + HIDDEN, f"Content-Length: {value}"), [400])
      for value in ("+5", "-5", "0_5", "5.", "\xb2")),
    Attack("CVE-2023-47627 GHSA-gfw2-4jvh-wgfg name with a space",
           "names of fields were not checked",
           sized(b"hello" + HIDDEN, "Content-Length: 5", "Transfer-Encoding : chunked"), [400]),
    Attack("CVE-2023-47641 GHSA-xx9p-xxvh-7g8j length beside a coding",
           "with both fields one parser took the length and the other the coding",
           sized(TAIL, "Content-Length: 5", "Transfer-Encoding: chunked123"), [400]),
    *(Attack(f"CVE-2024-23829 GHSA-8qpw-xqxj-h4r2 {name}",
             "patterns took more characters than the grammar has",
             line + b"\r\nHost: a\r\n\r\n" + HIDDEN, [400])
      for name, line in {
          "version without a dot": "GET / HTTP/1\xf61".encode(),
          "version in other digits": "GET / HTTP/1.\U0001d7d9".encode(),
          "method with a colon": b"GET/: HTTP/1.1",
      }.items()),
    Attack("CVE-2024-23829 GHSA-8qpw-xqxj-h4r2 name with a question mark",
           "patterns took more characters than the grammar has",
           sized(HIDDEN, "Content-Encoding?: chunked", line="GET /healthz"), [400]),
    Attack("CVE-2024-52304 GHSA-8495-4g3g-x7pr newline in a chunk extension",
           "an LF was a part of the extension for one reader and its end for the other",
           chunked(b"5;\nhello\r\n0\r\n\r\n" + HIDDEN), [400]),
    Attack("CVE-2025-53643 GHSA-9548-qrrj-x5pj trailer",
           "what stands behind the last chunk was left for the next request",
           chunked(b"5\r\nhello\r\n0\r\n" + HIDDEN) + raw.head("GET /healthz"), [400]),
    Attack("CVE-2025-69224 coding with a letter that folds to another",
           "a Kelvin sign lower-cased to a k",
           sized(TAIL, "Content-Length: 5", "Transfer-Encoding: chun\xe2\x84\xaaed"), [400]),
    Attack("CVE-2026-34525 two hosts",
           "several Host fields were taken, and the reader chose",
           sized(HIDDEN, "Host: other", line="GET /healthz"), [400]),
    Attack("CVE-2026-111750 GHSA-pqxq-w44r-73xw ambiguous framing",
           "framing that can be read in two ways was served",
           sized(TAIL, CODING, "Content-Length:"), [400]),
    Attack("GHSA-mfx4-hv73-q22v upgrade that is not taken up",
           "what followed a request to become a WebSocket was read by other rules",
           sized(HIDDEN, "Connection: Upgrade", "Upgrade: websocket", length(),
                 line="GET /healthz"), [200]),
]  # fmt: skip

TORNADO = [
    *(Attack(f"GHSA-qppv-j76h-2rpx length {value}",
             "what Python takes for a number was a length",
             sized(b"hello" + HIDDEN, f"Content-Length: {value}"), [400])
      for value in ("+5", "-5", "0_5")),
    *(Attack(f"GHSA-qppv-j76h-2rpx chunk size {size}",
             "what Python takes for a number was a size",
             chunked(f"{size}\r\n".encode() + b"hello\r\n" + TAIL), [400])
      for size in ("+5", "-5", "0_5", "0x5", " 5")),
    Attack("GHSA-753j-mpmx-qq6g coding sent twice",
           "two codings were none, and the chunks became a request",
           sized(TAIL, CODING, CODING), [400]),
]  # fmt: skip

OTHERS = [
    Attack("CVE-2025-43859 GHSA-vqfr-h8mv-ghfj end of a chunk",
           "h11: any two bytes ended a chunk's data",
           chunked(b"5\r\nhelloXX0\r\n\r\n" + HIDDEN), [400]),
    Attack("cheroot #737 two lengths",
           "cheroot: the second length counted, a proxy's the first",
           sized(HIDDEN, length(), "Content-Length: 0", line="GET /healthz"), [400]),
    Attack("cheroot #275 content nobody reads",
           "cheroot: content of a GET was left for the next request",
           sized(HIDDEN, length(), line="GET /healthz") + raw.head("GET /healthz"), [200, 200]),
    Attack("CVE-2022-29361 content nobody reads",
           "Werkzeug: content that the application had not read was the next request",
           sized(HIDDEN, length(), line="POST /no/such/path") + raw.head("GET /healthz"),
           [404, 200]),
    Attack("CVE-2025-58068 GHSA-hw6f-rjfj-j7j7 trailer of several lines",
           "eventlet: one line was read behind the last chunk, and the rest was the next request",
           chunked(b"5\r\nhello\r\n0\r\nX: y\r\nY: z\r\n\r\n") + raw.head("GET /healthz"),
           [200, 200]),
    Attack("CVE-2025-58068 GHSA-hw6f-rjfj-j7j7 request in place of a trailer",
           "eventlet: one line was read behind the last chunk, and the rest was the next request",
           chunked(b"5\r\nhello\r\n0\r\nX: y\r\n" + HIDDEN), [400]),
    Attack("CVE-2023-41419 invalid trailer",
           "gevent: an invalid trailer was read as another request",
           chunked(b"5\r\nhello\r\n0\r\nX : y\r\n" + HIDDEN), [400]),
    Attack("CVE-2020-10108 two lengths",
           "Twisted: of two lengths the first was ignored",
           sized(HIDDEN, "Content-Length: 0", length(), line="GET /healthz"), [400]),
    Attack("CVE-2020-10109 length and coding",
           "Twisted: with both fields the length counted",
           sized(TAIL, "Content-Length: 5", CODING), [400]),
    *(Attack(f"CVE-2022-24801 {name}", "Twisted: several leniencies at once", sent, [400])
      for name, sent in {
          "length with a sign": sized(b"hello" + HIDDEN, "Content-Length: +5"),
          "chunk size with a prefix": chunked(b"0x5\r\nhello\r\n" + TAIL),
          "white space in a field name": sized(b"hello", "Content-\tLength: 5"),
          "LF in a chunk extension": chunked(b"5;\n\r\nhello\r\n" + TAIL),
      }.items()),
    *(Attack(f"CVE-2026-44546 GHSA-xh68-hfp5-5x5m line ends of str {ord(end):02x}",
             "Daphne: fields were taken apart by str.splitlines()",
             sized(HIDDEN, f"X: y{end}{length()}", line="GET /healthz"), [400])
      for end in "\x0b\x0c\x1c\x1d\x1e"),
]  # fmt: skip

ATTACKS = [*GUNICORN, *WAITRESS, *AIOHTTP, *TORNADO, *OTHERS]


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_smuggling(attack: Attack, service: Service) -> None:
    assert service.post("/", data=VICTIM).text == DIGEST
    statuses = [answer.status for answer in answers(service.daemon, attack.sent)]
    assert statuses == attack.statuses, attack.fault
    assert service.get_file(DIGEST).content == VICTIM


def test_the_hidden_request_does_what_it_says(service: Service) -> None:
    """Without this, an attack that gets through could go unseen."""
    assert service.post("/", data=VICTIM).text == DIGEST
    assert [answer.status for answer in answers(service.daemon, HIDDEN)] == [200]
    assert service.get_file(DIGEST).status_code == 404


def test_cve_2026_44546_next_line_is_no_line_end(service: Service) -> None:
    """Daphne: fields were taken apart by str.splitlines(), for which U+0085 ends a line."""
    assert service.post("/", data=VICTIM).text == DIGEST
    request = raw.head(f"GET /?file_hash={DIGEST}", "X: y\x85Range: bytes=0-0")
    (answer,) = answers(service.daemon, request)
    assert (answer.status, answer.content) == (200, VICTIM)


def test_cve_2024_41671_pipelined_responses_in_order(service: Service) -> None:
    """Twisted: responses to pipelined requests could change places."""
    uploads = [raw.post(b"%d" % number) for number in range(20)]
    sent = b"".join(upload + raw.head(f"GET /{number}") for number, upload in enumerate(uploads))
    statuses = [answer.status for answer in answers(service.daemon, sent)]
    assert statuses == [200, 404] * 20


def test_chunks_that_end_where_they_should(service: Service) -> None:
    """What the attacks above are variations of is served, twice on one connection."""
    statuses = [answer.status for answer in answers(service.daemon, chunked(HELLO) * 2)]
    assert statuses == [200, 200]
