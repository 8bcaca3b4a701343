"""Stores of other algorithms, and what was put into a store by hand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemons import Daemon
from tests.service import Service, path_in

ALGORITHMS = ("md5", "sha1", "sha256", "sha512", "blake2b")


def put(store: Path, digest: str, content: bytes) -> None:
    """Put a file into a store as another program would."""
    path_in(store, digest).parent.mkdir(parents=True, exist_ok=True)
    path_in(store, digest).write_bytes(content)


@pytest.fixture
def quiet(daemon: Daemon) -> Iterator[Service]:
    """A service that is not started yet."""
    with Service(daemon) as service:
        yield service


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_content_by_one_algorithm_old_by_all(algorithm: str, quiet: Service) -> None:
    old = {name: hashlib.new(name, b"old").hexdigest() for name in ALGORITHMS}
    for digest in old.values():
        put(quiet.daemon.store, digest, b"old")
    quiet.daemon.start(f"--hash={algorithm}")

    digest = hashlib.new(algorithm, b"new").hexdigest()
    answer = quiet.post("/", data=b"new", headers={"Accept": "application/json"})
    row = {"file_hash": digest, "size": 3, "algorithm": algorithm, "created": True}
    assert answer.json() == row
    assert path_in(quiet.daemon.store, digest).read_bytes() == b"new"
    assert quiet.get_file(digest, "&stat").json()["algorithm"] == algorithm
    assert quiet.delete(f"/?file_hash={digest}").status_code == 200

    for name, other in old.items():
        assert quiet.get_file(other).content == b"old"
        stat = quiet.get_file(f"{name}:{other}", "&stat").json()
        assert (stat["algorithm"], stat["size"]) == (name, 3)
        assert quiet.delete(f"/?file_hash={other}").status_code == 200
        assert quiet.get_file(other).status_code == 404


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stated_digest_of_another_algorithm(algorithm: str, service: Service) -> None:
    digest = hashlib.new(algorithm, b"stated").hexdigest()
    answer = service.post(f"/?file_hash={algorithm}:{digest}", data=b"stated")
    assert (answer.status_code, answer.text) == (200, hashlib.md5(b"stated").hexdigest())
    assert service.post(f"/?file_hash={algorithm}:{digest}", data=b"other").status_code == 400


def test_file_put_there_by_hand(service: Service, content: bytes, digest: str) -> None:
    put(service.daemon.store, digest, content)
    assert service.get_file(digest).content == content
    answer = service.post("/", data=content, headers={"Accept": "application/json"})
    assert answer.json()["created"] is False
    assert service.delete(f"/?file_hash={digest}").status_code == 200
    assert service.get_file(digest).status_code == 404


def file_link(place: Path, secret: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to(secret)


def folder_link(place: Path, secret: Path) -> None:
    secret.rename(secret.with_name(place.name))
    place.parent.symlink_to(secret.parent)


def folder(place: Path, _secret: Path) -> None:
    place.mkdir(parents=True)


def pipe(place: Path, _secret: Path) -> None:
    place.parent.mkdir(parents=True)
    os.mkfifo(place)


@pytest.mark.parametrize("put_it", [file_link, folder_link, folder, pipe])
def test_what_is_no_plain_file_is_not_served(
    put_it: object, quiet: Service, tmp_path: Path
) -> None:
    digest = hashlib.md5(b"secret").hexdigest()
    (tmp_path / "outside").mkdir()
    secret = tmp_path / "outside" / "secret"
    secret.write_bytes(b"secret")
    quiet.daemon.start()
    put_it(path_in(quiet.daemon.store, digest), secret)  # type: ignore[operator]
    for query in ("", "&stat"):
        assert quiet.get_file(digest, query).status_code == 404
    assert quiet.delete(f"/?file_hash={digest}").status_code == 404
    answer = quiet.post("/", data=b"secret")
    assert answer.status_code == 500
    assert [file.read_bytes() for file in (tmp_path / "outside").iterdir()] == [b"secret"]
