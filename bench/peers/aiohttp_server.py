"""The server of `aiohttp.py`: python aiohttp_server.py PORT WORKERS FOLDER.

It is run by the Python that has aiohttp, and knows nothing of this project.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import sys
from functools import partial
from pathlib import Path

from aiohttp import web

PIECE = 256 * 1024  # what hashing and writing take at once, in a thread


async def put(root: Path, request: web.Request) -> web.Response:
    """Store the content under the path, by a temporary file; answer with its MD5."""
    path = root / request.path[1:]
    staged = root / f".{secrets.token_hex(16)}"
    running = hashlib.md5()
    with staged.open("wb") as file:

        def work(pieces: list[bytes]) -> None:
            for piece in pieces:
                running.update(piece)
                file.write(piece)

        pieces, size = [], 0
        async for piece in request.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size >= PIECE:
                await asyncio.to_thread(work, pieces)
                pieces, size = [], 0
        work(pieces)
    staged.rename(path)
    return web.Response(text=running.hexdigest(), status=201)


async def delete(root: Path, request: web.Request) -> web.Response:
    """Remove the file of that path."""
    (root / request.path[1:]).unlink()
    return web.Response()


def serve(port: int, root: Path) -> None:
    """Serve until SIGTERM."""
    application = web.Application(client_max_size=1 << 40)
    application.router.add_put("/{name:.*}", partial(put, root))
    application.router.add_delete("/{name:.*}", partial(delete, root))
    application.router.add_static("/", root)
    web.run_app(
        application, host="127.0.0.1", port=port, reuse_port=True, backlog=4096, access_log=None,
        print=None,
    )  # fmt: skip


def main(port: str, workers: str, folder: str) -> None:
    others = []
    for _ in range(int(workers) - 1):
        pid = os.fork()
        if pid == 0:
            serve(int(port), Path(folder))
            return
        others.append(pid)
    try:
        serve(int(port), Path(folder))
    finally:
        for pid in others:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
