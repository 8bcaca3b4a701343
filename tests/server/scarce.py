"""A server that may have few descriptors; run as a process of its own by test_shortage.py.

Writes its port to stdout, and serves until its stdin ends. `GET /` tells three numbers: the turns
of the loop during a wait of SECONDS, the errors logged so far, and the open connections.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from loguru import logger

from httpd.exchange import Request, Response
from httpd.server.listener import Server
from httpd.server.loop import Loop
from httpd.server.tally import Tally
from httpd.traps import pause, readable
from tests.served import listen_tcp, settings_of

DESCRIPTORS = 40
SECONDS = 0.6  # long enough for two attempts to accept


def main() -> None:
    errors: list[str] = []
    logger.remove()
    logger.add(errors.append, level="ERROR")
    loop = Loop(threads=1)
    turns: list[None] = []
    loop.after_turn.append(lambda: turns.append(None))

    async def tell(_request: Request) -> Response:
        before = len(turns)
        await pause(loop.now + SECONDS)
        content = f"{len(turns) - before} {len(errors)} {len(server.connections)}"
        return Response(200, [], content.encode())

    async def stop_with_the_test() -> None:
        await readable(sys.stdin.fileno())
        loop.stop()

    listener = listen_tcp()
    # Made before there are so few, or it would stop by itself before the system stops it.
    server = Server([listener], tell, settings_of(Path("/")), loop, Tally(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    server.start()
    loop.spawn(stop_with_the_test())
    print(listener.getsockname()[1], flush=True)
    loop.run()


if __name__ == "__main__":
    main()
