"""Whose a connection is, and whether that client has too many already."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from loguru import logger

from httpd.exchange import Refusal
from httpd.protocol.forwarded import client_behind, plain_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpd.config import Settings
    from httpd.protocol.forwarded import Forwarding
    from httpd.server.tally import Tally

UNIX = "unix:"  # stands for the address where there is none
# Connections beyond the limit are told so, up to as many again; those beyond that are closed
# without a word. Without such an end, whoever may not be served could still hold everything.
TOLD = 2
# How often the log names a client that has too many, or tells of what all are short of.
COMPLAINT_SECONDS = 10.0
# A host, or a whole household of them, is given this much of IPv6, and can use any address in it.
HOUSEHOLD_BITS = 64
# Addresses whose meaning is remembered: some 100 bytes each.
REMEMBERED = 4096


class Clients:
    """Tells clients apart by their addresses, and counts the connections of each."""

    def __init__(self, settings: Settings, tally: Tally, now: Callable[[], float]) -> None:
        """Take the settings, what counts for all workers, and a clock in seconds."""
        self.most = settings.max_connections_per_client  # connections of one client; 0: any
        self._tally = tally
        self._now = now
        self._quiet_until = 0.0
        trusted = settings.trusted_proxy
        self._plain = lru_cache(REMEMBERED)(plain_address)  # takes 4 µs, of IPv6 15
        self.trusts = lru_cache(REMEMBERED)(lambda peer: trusted is not None and peer in trusted)

    def arrive(self, address: object) -> Visitor | None:
        """Return who comes from a socket's address; None: not even to be told of the limit."""
        peer = UNIX
        if isinstance(address, tuple):
            peer = self._plain(address[0]) or address[0]
        visitor = Visitor(self, peer, proxied=self.trusts(peer))
        counts = peer != UNIX and not visitor.proxied
        if counts and visitor.count(peer) > TOLD * self.most:
            visitor.depart()
            return None
        return visitor

    def add(self, client: str) -> int:
        """Count a connection; return how many there are, 0 where nobody limits them."""
        if not self.most:
            return 0
        count = self._tally.add(_household(client), 1)
        if count > self.most:
            self._tally.forget_the_dead()
            count = self._tally.add(_household(client), 0)
        if count > self.most and self._now() >= self._quiet_until:
            self._quiet_until = self._now() + COMPLAINT_SECONDS
            logger.warning("{} has more than {} connections", client, self.most)
        return count

    def remove(self, client: str) -> None:
        """Count the end of a connection that was added."""
        if self.most:
            self._tally.add(_household(client), -1)


class Visitor:
    """Who is at the other end of a connection, or who is behind a proxy there at the moment."""

    __slots__ = ("_clients", "_counted", "_peer", "admitted", "name", "proxied")

    def __init__(self, clients: Clients, peer: str, *, proxied: bool) -> None:
        """Take the address of the peer, and whether it is a proxy whose word counts."""
        self._clients = clients
        self._peer = peer
        self._counted: str | None = None
        self.name = peer  # for the log
        self.proxied = proxied
        self.admitted = True  # has no more connections than allowed

    def count(self, client: str) -> int:
        """Count this connection as that client's; return how many it has, as `Clients.add`."""
        self._counted = client
        count = self._clients.add(client)
        self.admitted = count <= self._clients.most
        return count

    def speak_for(self, forwarding: Forwarding) -> None:
        """Let a proxy tell whom its present request is from. Nobody else is to be believed."""
        self.finish()
        if forwarding == (None, None):
            return  # it asks for itself, as a probe of its own does
        # Where it is not told, all such requests of this proxy share the part of one client.
        self.name = client_behind(forwarding, self._clients.trusts) or self._peer
        self.count(self.name)

    def check(self) -> None:
        """Raise Refusal where the client has more connections than allowed."""
        if not self.admitted:
            reason = "too many connections from this address"
            # A proxy's connection carries the requests of others as well.
            raise Refusal(429, reason, [("Retry-After", "1")], close=not self.proxied)

    def finish(self) -> None:
        """Take back what a proxy has told: its request is answered."""
        self.depart()
        self.name, self.admitted = self._peer, True

    def depart(self) -> None:
        """Stop counting: the connection has ended."""
        if self._counted is not None:
            self._clients.remove(self._counted)
            self._counted = None


def _household(client: str) -> str:
    """Return what is counted as one client: an address, a /64 of IPv6, an identifier."""
    if ":" not in client or client == UNIX:
        return client
    return str(int(ip_address(client)) >> HOUSEHOLD_BITS)
