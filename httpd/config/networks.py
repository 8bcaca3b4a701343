"""Whose word counts: addresses, networks, and the unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from httpd.config.values import UNIX


@dataclass(frozen=True)
class Networks:
    """IP networks, single addresses among them; `unix`: and every client of a unix socket."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    unix: bool = False

    def __contains__(self, peer: object) -> bool:
        """Tell whether a peer's address, or `unix:`, is among them; any other text is not."""
        if peer == UNIX:
            return self.unix
        try:
            address = ip_address(str(peer))
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return self.unix or bool(self.networks)

    def __str__(self) -> str:
        """Return them as `networks` reads them."""
        return ",".join([*map(str, self.networks), *([UNIX] if self.unix else [])])


def networks(text: str, _folder: Path) -> Networks:
    """Parse a list like `10.0.0.0/8, ::1, unix:`."""
    entries = [entry.strip() for entry in text.split(",")]
    unix = UNIX in entries
    return Networks(tuple(map(_network, (each for each in entries if each != UNIX))), unix)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            within = ip_network(text, strict=False)
            raise ValueError(f"is no network: did you mean {within}?") from None
        raise ValueError("is no list of addresses like 10.0.0.0/8, ::1, unix:") from None
