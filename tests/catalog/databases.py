"""A throw-away PostgreSQL from the Debian package, and a way to reach past the catalog."""

from __future__ import annotations

import os
import subprocess
from itertools import count
from pathlib import Path
from shutil import chown

import sqlalchemy

from httpd.catalog.url import parse

# Debian keeps the versions side by side; the newest is taken.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


class Server:
    """A server on a unix socket in `folder`, which everybody must be able to reach.

    Its administrator is `app` with no password; `stranger` needs one, and has none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.schemas = count(1)
        # The server refuses to run as root; Debian's package has made a user for it.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user is not None:
            chown(folder, self.user)
        self.run("initdb", "--username=app", "--auth=trust", "--encoding=UTF8", "--no-sync")
        access = folder / "data" / "pg_hba.conf"
        access.write_text(f"local all stranger scram-sha-256\n{access.read_text()}")

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [PROGRAMS[-1] / program, f"--pgdata={self.folder / 'data'}", *arguments],
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def start(self) -> None:
        settings = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        log = self.folder / "log"
        self.run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={settings}")

    def stop(self) -> None:
        """Stop it the way a crash does."""
        self.run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def url(self, user: str = "app", schema: str = "public") -> str:
        options = f"host={self.folder}&options=-csearch_path%3D{schema}"
        return f"postgresql://{user}@/postgres?{options}"

    def new_schema(self) -> str:
        """Make an empty schema, which takes a hundredth of a database's time; return its URL."""
        name = f"test{next(self.schemas)}"
        execute(self.url(), f"CREATE SCHEMA {name}")
        return self.url(schema=name)


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements beside the catalog, outside of a transaction; return the last one's rows."""
    engine = sqlalchemy.create_engine(
        parse(url), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []
