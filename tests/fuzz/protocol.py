"""A coverage-guided search for bytes that the protocol floor fails at: `make fuzz`.

Arguments are libFuzzer's: folders of inputs (new ones are written into the first), options, or one
file to see what an input does.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["httpd", "tests"]):
    from httpd.exchange import Refusal
    from httpd.protocol.head import take_head
    from tests.fields import read_value
    from tests.streams import LIMITS, bytewise, cut, read_stream

BYTEWISE = 400  # of longer ones byte by byte would be most of the work


def search(data: bytes) -> None:
    """Fail at any exception but a refusal, and where the same bytes read in two ways."""
    whole = read_stream([data])
    # Two places that change with every input, and that an input alone decides.
    places = [sum(data) % (len(data) + 1), len(data) * 2 // 3]
    assert read_stream(cut(data, places)) == whole
    if len(data) <= BYTEWISE:
        assert read_stream(bytewise(data)) == whole
    with suppress(Refusal):
        head = take_head(bytearray(data), LIMITS)
        for _, value in head.fields if head else ():
            read_value(value)


if __name__ == "__main__":
    atheris.Setup(sys.argv, search)
    atheris.Fuzz()
