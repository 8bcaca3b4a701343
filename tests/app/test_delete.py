"""`DELETE /?file_hash=…`"""

from __future__ import annotations

import hashlib

import pytest

from httpd.storage.digest import Digest
from tests import raw
from tests.service import Service, path_in
from tests.storage.samples import neighbour


def test_deleted_is_gone_with_its_folder(service: Service, stored: str) -> None:
    path = path_in(service.daemon.store, stored)
    answer = service.delete(f"/?file_hash={stored}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert not path.parent.exists()
    for method in ("GET", "DELETE"):
        assert service.request(method, f"/?file_hash={stored}").status_code == 404


def test_folder_of_others_stays(service: Service, stored: str) -> None:
    beside = neighbour(Digest("md5", stored))
    other = service.post("/", data=beside).text
    assert service.delete(f"/?file_hash={stored}").status_code == 200
    assert service.get_file(other).content == beside


def test_deleted_may_come_back(service: Service, content: bytes, stored: str) -> None:
    service.delete(f"/?file_hash={stored}")
    answer = service.post("/", data=content, headers={"Accept": "application/json"})
    assert answer.json()["created"] is True
    assert service.get_file(stored).content == content


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-Match": '"E"'}, 200),
        ({"If-Match": '"x"'}, 412),
        ({"If-None-Match": "*"}, 412),
        ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
    ],
)
def test_delete_on_a_condition(
    fields: dict[str, str], status: int, service: Service, stored: str
) -> None:
    said = {name: value.replace("E", stored) for name, value in fields.items()}
    assert service.delete(f"/?file_hash={stored}", headers=said).status_code == status
    assert service.get_file(stored).status_code == (404 if status == 200 else 200)


def test_download_goes_on_after_the_delete(service: Service) -> None:
    content = bytes(range(256)) * 100_000  # more than sockets hold
    digest = service.post("/", data=content).text
    assert digest == hashlib.md5(content).hexdigest()
    with service.daemon.connect() as reader:
        reader.sendall(raw.head(f"GET /?file_hash={digest}", "Connection: close"))
        begun = reader.recv(1)
        assert service.delete(f"/?file_hash={digest}").status_code == 200
        answer = raw.answer_in(begun + raw.receive_all(reader))
    assert (answer.status, answer.content) == (200, content)
