"""Whatever stands in a field: its readers read it, ignore it or refuse it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fields import read_value

WORDS = st.sampled_from(
    [
        *("bytes=", "0-", "-5", "0-0,", "9" * 41, "W/", '"0123"', '"', "*", ",", ";", "=", "\\"),
        *("attachment", "; filename=", "; filename*=", "UTF-8''", "%e2%82%ac", "%", "..", "/"),
        *("text/plain", "application/json", ";q=", "0.5", "1.0001", " ", "\t", ":", "é", "\xff"),
        *("sha-256=:", "md5=:", "AAAA", "==", "Sun, 06 Nov 1994 08:49:37 GMT", "Nov", "\x1b"),
    ]
)


@settings(max_examples=300)
@given(value=st.lists(WORDS, max_size=20).map("".join) | st.text(max_size=40))
def test_any_value_is_read_or_refused(value: str) -> None:
    read_value(value)
    read_value(value, size=0)
