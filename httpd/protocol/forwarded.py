"""Who a proxy speaks for: Forwarded (RFC 7239) and X-Forwarded-For."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from httpd.exchange import Fields
from httpd.protocol.grammar import (
    FORWARDED,
    FORWARDED_ELEMENT,
    FORWARDED_PAIR,
    NODE,
    QUOTED_PAIR,
)

Trusts = Callable[[str], bool]
"""Tells of an address whether the proxy there is believed."""


class Forwarding(NamedTuple):
    """What a request says of its way here: the values of two fields, None where one is absent."""

    forwarded: str | None
    x_forwarded_for: str | None


def forwarding_of(fields: Fields) -> Forwarding:
    """Return what the request with these fields says of its way."""
    return Forwarding(fields.get("forwarded"), fields.get("x-forwarded-for"))


def plain_address(text: str) -> str | None:
    """Return an IP address in its shortest form, None where the text is none.

    An IPv4 address in IPv6's clothes (RFC 4291 section 2.5.5.2), which is how a socket for both
    shows it, is taken out of them.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def client_behind(forwarding: Forwarding, trusts: Trusts) -> str | None:
    """Return the client that a trusted proxy speaks for, an address or an obfuscated identifier.

    Every proxy writes whom it has the request from at the end of the field, so from there on each
    entry is as true as the one behind it: the client is the first that is not itself trusted. What
    stands before that one anybody may have written.

    None where the values do not tell. A proxy sets one of the two fields and may pass the other
    one on as the client has sent it: so where both are there, they must say the same.
    """
    told = [
        _first_untrusted(nodes, trusts)
        for nodes in (_nodes(forwarding.forwarded), _x_nodes(forwarding.x_forwarded_for))
        if nodes
    ]
    return told[0] if told and all(each == told[0] for each in told) else None


def _first_untrusted(nodes: Sequence[str | None], trusts: Trusts) -> str | None:
    """Go from proxy to proxy, the nearest first; stop where one cannot be believed or read."""
    client = None
    for node in reversed(nodes):
        name = _name(node or "")
        if name is None:
            break
        client = name
        if not trusts(name):
            break
    return client


def _nodes(value: str | None) -> list[str | None]:
    """Return what each element of Forwarded gives as `for`, none at all where no one does."""
    if value is None:
        return []
    if not FORWARDED.fullmatch(value):
        return [None]
    elements = [match[0] for match in FORWARDED_ELEMENT.finditer(value) if match[0]]
    nodes = [_for(element) for element in elements]
    return nodes if any(nodes) else []  # an element may tell of nothing but the protocol


def _for(element: str) -> str | None:
    values = [pair[2] for pair in FORWARDED_PAIR.finditer(element) if pair[1].lower() == "for"]
    if len(values) != 1:
        return None
    (value,) = values
    return QUOTED_PAIR.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _x_nodes(value: str | None) -> list[str]:
    return [] if value is None else [node.strip(" \t") for node in value.split(",")]


def _name(node: str) -> str | None:
    """Return a node without its port (RFC 7239 section 6); None for `unknown` and for nonsense."""
    match = NODE.fullmatch(node)
    if match is None:
        return None
    bracketed, version_4, obfuscated, bare = match.groups()
    return obfuscated or plain_address(bracketed or version_4 or bare)
