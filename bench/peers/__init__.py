"""The servers that are compared, one class a server and way of setting it up."""

from bench.peers.aiohttp import Aiohttp
from bench.peers.checksum import Md5sum, Sha256sum
from bench.peers.copyparty import Copyparty
from bench.peers.filestored import Filestored, Sha256, Undurable
from bench.peers.nginx import Nginx, NginxUnlogged
from bench.peers.peer import Peer
from bench.peers.seaweedfs import SeaweedFS

__all__ = [
    "PEERS", "Aiohttp", "Copyparty", "Filestored", "Md5sum", "Nginx", "Peer", "SeaweedFS",
    "Undurable",
]  # fmt: skip

# In the order of the tables' rows.
PEERS: tuple[type[Peer], ...] = (
    Filestored, Undurable, Sha256, Nginx, NginxUnlogged, SeaweedFS, Copyparty, Aiohttp,
    Md5sum, Sha256sum,
)  # fmt: skip
