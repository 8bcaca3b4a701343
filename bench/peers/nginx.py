"""nginx, and its WebDAV PUT; it neither hashes nor flushes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import ClassVar

from bench.peers.peer import Peer, said

CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes {workers};
{user} events {{ worker_connections 20000; }}
http {{
    {logging} sendfile on; tcp_nopush on; keepalive_requests 1000000000;
    client_body_temp_path {folder}/temp; client_body_buffer_size 128k;
    server {{
        listen 127.0.0.1:{port} backlog=4096; root {folder}/data;
        location / {{
            dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 10g;
        }}
    }}
}}
"""


class Nginx(Peer):
    """sendfile, an access log."""

    title = "nginx"
    parts = frozenset({"get", "post", "up", "down", "start", "crowd"})
    package = "Debian's nginx-light"
    logging: ClassVar[str] = "access_log {folder}/access.log;"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("nginx")

    @classmethod
    def version(cls) -> str:
        return said("nginx", "-v").rpartition("/")[2]

    def command(self, workers: int) -> list[str | Path]:
        values = {
            "folder": self.folder,
            "port": self.port,
            "workers": workers,
            "user": "user root;" if os.geteuid() == 0 else "",
            "logging": self.logging.format(folder=self.folder),
        }
        config = self.folder / "nginx.conf"
        config.write_text(CONFIG.format(**values))
        return ["nginx", "-c", config, "-p", self.folder]


class NginxUnlogged(Nginx):
    """Open files are kept, nothing is logged."""

    title = "nginx, open_file_cache, no log"
    parts = frozenset({"get"})
    remembers = True
    logging = "access_log off; open_file_cache max=10000 inactive=60s; open_file_cache_valid 60s;"
