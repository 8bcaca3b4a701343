"""What a daemon says of content that a check has found damaged, and how that is healed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.daemons import Daemon
from tests.service import Service, path_in
from tests.upkeep.stores import flip

CONTENT = b"some content to be spoilt"
REASON = "the file with the hash {} is damaged; it is kept in quarantine"


@pytest.fixture
def service(daemon: Daemon) -> Iterator[Service]:
    with Service(daemon.start()) as service:
        yield service


@pytest.fixture
def named(service: Service) -> str:
    """The id of a file whose content nobody has stored by its hash."""
    return service.post("/files/photo.jpg", data=CONTENT).text


@pytest.fixture
def quarantined(service: Service, named: str) -> str:
    """The digest of that content, which is damaged, and which a check has found."""
    (row,) = service.get("/files/").json()
    assert row["id"] == named
    digest: str = row["file_hash"]
    assert service.get_file(digest).content == CONTENT  # held in memory too, by now
    flip(path_in(service.daemon.store, digest))
    done = service.daemon.command("verify", "--repair")  # which finds the store by the pidfile
    assert done.returncode == 1
    assert done.stdout.startswith(f"damaged {digest}: its bytes have md5 ")
    return digest


def kept(service: Service) -> list[str]:
    return [file.name for file in (service.daemon.store / ".quarantine").iterdir()]


@pytest.mark.parametrize(
    "target", ["/?file_hash={digest}", "/?file_hash={digest}&stat", "/files/{named}/"]
)
def test_reading_it_is_500_with_a_reason_and_logged(
    target: str, quarantined: str, named: str, service: Service
) -> None:
    reason = REASON.format(quarantined)
    for _ in range(4):  # on every worker, whatever it held in memory
        answer = service.get(target.format(digest=quarantined, named=named))
        assert (answer.status_code, answer.text) == (500, f"{reason}\n")
    assert reason in service.daemon.life_log()


def by_hash(service: Service) -> None:
    assert service.post("/", data=CONTENT).status_code == 200


def by_id(service: Service) -> None:
    assert service.post("/files/other.jpg", data=CONTENT).status_code == 201


def by_hash_held_back(service: Service) -> None:
    """Offer the content first: the server must not say that it has it."""
    digest = service.get("/files/").json()[0]["file_hash"]
    answer = service.post(f"/?file_hash={digest}", data=CONTENT, headers={"Expect": "100-continue"})
    assert answer.status_code == 200


@pytest.mark.parametrize("heal", [by_hash, by_id, by_hash_held_back])
def test_storing_it_again_heals_it(
    heal: Callable[[Service], None], quarantined: str, named: str, service: Service
) -> None:
    heal(service)
    assert service.get_file(quarantined).content == CONTENT
    assert service.get(f"/files/{named}/").content == CONTENT
    assert kept(service) == []
    done = service.daemon.command("verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["faults"]) == (0, [])


def test_content_that_was_healed_by_its_hash_outlives_its_name(
    quarantined: str, named: str, service: Service
) -> None:
    by_hash(service)
    assert service.delete(f"/files/{named}/").status_code == 200
    assert service.get_file(quarantined).content == CONTENT


def test_it_goes_with_its_last_name(quarantined: str, named: str, service: Service) -> None:
    assert service.delete(f"/?file_hash={quarantined}").status_code == 409
    assert service.delete(f"/files/{named}/").status_code == 200
    assert service.get_file(quarantined).status_code == 404
    assert kept(service) == []


def test_it_can_be_deleted_by_its_hash(service: Service) -> None:
    digest = service.post("/", data=CONTENT).text
    flip(path_in(service.daemon.store, digest))
    assert service.daemon.command("verify", "--repair").returncode == 1
    assert service.delete(f"/?file_hash={digest}").status_code == 200
    assert service.get_file(digest).status_code == 404
    assert service.delete(f"/?file_hash={digest}").status_code == 404
    assert kept(service) == []
