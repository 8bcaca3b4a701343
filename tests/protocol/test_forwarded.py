from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.exchange import Fields
from httpd.protocol.forwarded import Forwarding, client_behind, forwarding_of, plain_address

# The proxies of these tests; the nearest one is who the request is received from.
PROXIES = {"10.0.0.1", "10.0.0.2", "fd00::1"}


def behind(forwarded: str | None = None, x_forwarded_for: str | None = None) -> str | None:
    return client_behind(Forwarding(forwarded, x_forwarded_for), PROXIES.__contains__)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1,10.0.0.2 ,\tfd00::1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1"),  # what is in front, anybody may have sent
        ("10.0.0.2, 192.0.2.1", "192.0.2.1"),
        ("nonsense\x7f, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.2", "10.0.0.2"),  # a proxy asks for itself
        ("fd00::1, 10.0.0.2", "fd00::1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:DB8::0:1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("_hidden", "_hidden"),
        ("192.0.2.1, _SEVKISEK", "_SEVKISEK"),
        # From the end on the first that cannot be read ends the search.
        ("192.0.2.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, nonsense", None),
        ("192.0.2.1, unknown", None),
        ("192.0.2.1,", None),
        ("", None),
        (",", None),
        ("192.0.2.256", None),
        ("192.0.2.1:port", None),
        ("192.0.2.1:123456", None),
        ("192.0.2.1 10.0.0.2", None),
        ("01.2.3.4", None),
        ("[192.0.2.1", None),
        ("fe80::1%eth0", None),
        ('fe80::1%" 200 0', None),
        ("_" + "x" * 64, None),
        ("_", None),
        ("proxy.example", None),
        ("1" * 10_000, None),
    ],
)
def test_x_forwarded_for(value: str, client: str | None) -> None:
    assert behind(None, value) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=192.0.2.1; Proto=http ;by=10.0.0.1", "192.0.2.1"),
        ('for="192.0.2.1:4711"', "192.0.2.1"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        (r'for="192.0\.2.1"', "192.0.2.1"),
        ("for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
        ('for=6.6.6.6, for=192.0.2.1,, for="[fd00::1]"', "192.0.2.1"),
        ('by="a,b;for=6.6.6.6";for=192.0.2.1', "192.0.2.1"),
        ("for=_hidden;by=_me", "_hidden"),
        ('for="_gazonk:_port"', "_gazonk"),
        ("for=192.0.2.1, for=_SEVKISEK", "_SEVKISEK"),
        ("for=192.0.2.1, for=unknown, for=10.0.0.2", "10.0.0.2"),
        ("for=unknown", None),
        ('for=""', None),
        ("proto=https", None),  # it says nothing of the client
        ("for=192.0.2.1, proto=https", None),  # the nearest proxy does not
        ("for=192.0.2.1;for=192.0.2.2", None),  # two in one element are one too many
        ("for=[2001:db8::1]", None),  # brackets and colons need quotes (RFC 7239 section 4)
        ("for=192.0.2.1:4711", None),
        ('for="192.0.2.1', None),
        ('for="open, for=192.0.2.1', None),
        ("for = 192.0.2.1", None),
        ("192.0.2.1", None),
        ("for=192.0.2.1; ;;proto=http", "192.0.2.1"),
        ("", None),
    ],
)
def test_forwarded(value: str, client: str | None) -> None:
    assert behind(value) == client


@pytest.mark.parametrize(
    ("forwarded", "x_forwarded_for", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ('for="[2001:db8::1]"', "2001:DB8::1", "2001:db8::1"),
        # A proxy that sets one passes the other on as the client has sent it: neither is believed.
        ("for=192.0.2.1", "6.6.6.6", None),
        ("for=192.0.2.1", "nonsense", None),
        ('"', "192.0.2.1", None),
        # This one says nothing of the client, so nothing else than the other.
        ("proto=https;host=a", "192.0.2.1", "192.0.2.1"),
        (None, None, None),
    ],
)
def test_two_fields_must_agree(
    forwarded: str | None, x_forwarded_for: str | None, client: str | None
) -> None:
    assert behind(forwarded, x_forwarded_for) == client


def test_lines_of_one_field_are_one_list() -> None:
    fields = Fields([("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1")])
    assert forwarding_of(fields) == Forwarding(None, "6.6.6.6, 192.0.2.1")
    assert client_behind(forwarding_of(fields), PROXIES.__contains__) == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("0:0::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),  # as the system shows a link's address
        ("unix:", None),
        ("", None),
    ],
)
def test_plain_address(text: str, address: str | None) -> None:
    assert plain_address(text) == address


TEXT = st.text('\t"\\,;=[]:._-% 0123456789abcdefFOR\xff', max_size=60)


@given(st.none() | TEXT, st.none() | TEXT)
def test_any_value_is_a_client_or_none(forwarded: str | None, x_forwarded_for: str | None) -> None:
    client = behind(forwarded, x_forwarded_for)
    assert client is None or client.startswith("_") or plain_address(client) == client


@given(TEXT)
def test_nothing_in_front_changes_what_the_proxy_says(front: str) -> None:
    assert behind(None, f"{front},192.0.2.1, 10.0.0.2") == "192.0.2.1"
    assert behind(f"{front},for=192.0.2.1") in ("192.0.2.1", None)
