"""What keeps content: names and uploads by hash, through crashes at any step."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import count, permutations
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from httpd.app.references import InUse, References, UnknownFile
from httpd.catalog.catalog import Catalog
from httpd.storage.contract import NotFound
from httpd.storage.digest import Digest
from httpd.storage.local import LocalStorage
from tests.app.samples import JSON, upload
from tests.service import Service, path_in
from tests.storage.samples import download

# ---- on a daemon: deletes in every order


@pytest.mark.parametrize("doors", ["id", "id and hash"])
@pytest.mark.parametrize("order", list(permutations(["0", "1", "2", "hash"])), ids="-".join)
def test_content_is_there_as_long_as_something_refers_to_it(
    order: tuple[str, ...], doors: str, service: Service, content: bytes, digest: str
) -> None:
    ids = [upload(service, content, f"{number}.txt") for number in range(2)]
    by_hash = doors == "id and hash"
    if by_hash:
        assert service.post("/", data=content, headers=JSON).json()["created"] is False
    ids.append(upload(service, content, "2.txt"))
    assert [path.name for path in service.daemon.store.rglob(digest)] == [digest]
    left = set(ids)
    for which in order:
        if which == "hash":
            status = 409 if left else 200 if by_hash else 404
            assert service.delete(f"/?file_hash={digest}").status_code == status
            by_hash = by_hash and status != 200
        else:
            assert service.delete(f"/files/{ids[int(which)]}/").status_code == 200
            left.remove(ids[int(which)])
        there = bool(left or by_hash)
        assert path_in(service.daemon.store, digest).exists() == there
        assert service.get_file(digest).status_code == (200 if there else 404)
        for file_id in ids:
            answer = service.get(f"/files/{file_id}/")
            assert answer.status_code == (200 if file_id in left else 404)
            assert answer.content == content or file_id not in left


def put_by_hand(store: Path, content: bytes) -> str:
    """Put a file into the store without the daemon, the way cp does; return its name."""
    path = path_in(store, hashlib.md5(content).hexdigest())
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path.name


def test_content_put_there_by_hand_outlives_its_names(service: Service, content: bytes) -> None:
    digest = put_by_hand(service.daemon.store, content)
    assert service.get_file(digest).content == content
    receipt = service.post("/files/a.txt", data=content, headers=JSON).json()
    assert (receipt["file_hash"], receipt["created"]) == (digest, False)
    assert service.delete(f"/?file_hash={digest}").status_code == 409
    assert service.delete(f"/files/{receipt['id']}/").status_code == 200
    assert service.get_file(digest).content == content
    assert service.delete(f"/?file_hash={digest}").status_code == 200
    assert service.get_file(digest).status_code == 404


def test_copy_put_there_by_hand_in_place_of_a_named_one_stays(
    service: Service, content: bytes
) -> None:
    file_id = upload(service, content)
    digest = put_by_hand(service.daemon.store, content)
    assert service.delete(f"/files/{file_id}/").status_code == 200
    assert service.get_file(digest).content == content


def test_content_that_was_taken_away_by_hand_is_told(service: Service, content: bytes) -> None:
    file_id = upload(service, content)
    digest = hashlib.md5(content).hexdigest()
    path_in(service.daemon.store, digest).unlink()
    answer = service.get(f"/files/{file_id}/")
    assert (answer.status_code, answer.text) == (500, "the content of this file is missing\n")
    assert upload(service, content) != file_id  # and it heals
    assert service.get(f"/files/{file_id}/").content == content


# ---- by itself: a crash before every call to the storage and the catalog

CONTENT = b"content that two doors store"
DIGEST = Digest("md5", hashlib.md5(CONTENT).hexdigest())


class World:
    """A store and its catalog, and References that join them, perhaps through something faulty."""

    def __init__(self, folder: Path, through: Callable[[Any], Any] = lambda target: target) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.through = through
        self.storage = LocalStorage(self.store, "md5", durable=False)
        self.catalog = Catalog.open(f"sqlite:///{folder}/catalog.db", durable=False)
        self.references = References(through(self.storage), through(self.catalog))

    def staged(self) -> Any:
        """Stage the content."""
        staged = self.storage.stage()
        staged.append(CONTENT)
        return self.through(staged)

    def ids(self) -> list[str]:
        return [file.id for file in self.catalog.files()]

    def is_there(self) -> bool:
        """Tell whether the content is there, whole."""
        try:
            return download(self.storage, DIGEST) == CONTENT
        except NotFound:
            return False


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.catalog.close()


Act = Callable[[World], object]


def add_name(world: World) -> str:
    return world.references.store_by_id(world.staged(), (), "a.txt", "text/plain").file.id


def store(world: World) -> object:
    return world.references.store_by_hash(world.staged(), ())


def leave_orphan(world: World) -> None:
    """Do what an upload does before it adds its name."""
    staged = world.staged()
    sealed = staged.seal()
    world.catalog.note(DIGEST.hex, DIGEST.algorithm, sealed.size, str(sealed.stamp))
    staged.publish()


class Kept(NamedTuple):
    """What keeps the content: a number of names, and whether it was stored by hash as well."""

    names: int
    by_hash: bool
    orphan: bool = False  # nothing keeps it, and it is there

    def is_there(self) -> bool:
        return self.names > 0 or self.by_hash or self.orphan


# How things may stand, how they come to that, and what keeps the content then.
SCENES: dict[str, tuple[list[Act], Kept]] = {
    "nothing": ([], Kept(0, False)),
    "by hash": ([store], Kept(0, True)),
    "one name": ([add_name], Kept(1, False)),
    "two names": ([add_name, add_name], Kept(2, False)),
    "name, then by hash": ([add_name, store], Kept(1, True)),
    "by hash, then name": ([store, add_name], Kept(1, True)),
    "by hand": ([lambda world: put_by_hand(world.store, CONTENT)], Kept(0, True)),
    "orphan": ([leave_orphan], Kept(0, False, orphan=True)),
    "row without content": (
        [lambda world: world.catalog.note(DIGEST.hex, "md5", len(CONTENT), "1")],
        Kept(0, False),
    ),
}
# What may happen then, and what keeps the content after it; None: it is refused.
ACTS: dict[str, tuple[Act, Callable[[Kept], Kept | None]]] = {
    "store by id": (add_name, lambda kept: Kept(kept.names + 1, kept.by_hash)),
    "name by id": (
        lambda world: world.references.name_by_id(DIGEST, "a.txt", "text/plain"),
        lambda kept: Kept(kept.names + 1, kept.by_hash) if kept.is_there() else None,
    ),
    "store by hash": (store, lambda kept: Kept(kept.names, True)),
    "keep by hash": (
        lambda world: world.references.keep_by_hash(DIGEST),
        lambda kept: Kept(kept.names, True) if kept.is_there() else None,
    ),
    "delete by id": (
        lambda world: world.references.delete_by_id(next(iter(world.ids()), "")),
        lambda kept: Kept(kept.names - 1, kept.by_hash) if kept.names else None,
    ),
    "delete by hash": (
        lambda world: world.references.delete_by_hash(DIGEST),
        lambda kept: Kept(0, False) if kept.is_there() and not kept.names else None,
    ),
    "free the orphan": (
        lambda world: world.references.free_orphan(DIGEST),
        lambda kept: Kept(kept.names, kept.by_hash),
    ),
}
REFUSALS = (NotFound, InUse, UnknownFile)


class Broken(Exception):
    """What the call of a faulty part raises."""


class Fuse:
    """Lets calls pass until the one that is due, and blows instead of it."""

    def __init__(self, calls: int, blow: Callable[[], None]) -> None:
        self.left = calls
        self.blow = blow

    def __call__(self, target: Any) -> Any:
        """Return `target` behind the fuse."""
        return Fused(target, self)

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.blow()


class Fused:
    """Passes calls on through a fuse."""

    def __init__(self, target: Any, fuse: Fuse) -> None:
        self.target = target
        self.fuse = fuse

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.fuse.burn()
            return getattr(self.target, name)(*arguments, **options)

        return call


class End(Enum):
    """How an act came to its end: the values are exit codes."""

    DONE = 0
    REFUSED = 3
    BROKEN = 9


def fails(folder: Path, act: Act, calls: int) -> End:
    """Let that call fail."""

    def blow() -> None:
        raise Broken

    world = World(folder, Fuse(calls, blow))
    try:
        act(world)
    except Broken:
        return End.BROKEN
    except REFUSALS:
        return End.REFUSED
    finally:
        world.catalog.close()
    return End.DONE


def dies(folder: Path, act: Act, calls: int) -> End:
    """Let a process die at that call, which gives nothing back and tidies nothing up."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act(World(folder, Fuse(calls, lambda: os._exit(End.BROKEN.value))))
            status = End.DONE.value
        except REFUSALS:
            status = End.REFUSED.value
        finally:
            os._exit(status)
    return End(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def recovered(folder: Path) -> Kept:
    """Free the orphans, as a repair does; find out what keeps the content then."""
    world = World(folder)
    ids = world.ids()
    assert world.is_there() or not ids, "a name without content"
    for row in list(world.catalog.unreferenced()):
        world.references.free_orphan(Digest(row.algorithm, row.digest))
    assert list(world.catalog.unreferenced()) == []
    assert world.is_there() or not ids, "the content of a name was freed"
    for file_id in ids:
        world.references.delete_by_id(file_id)
    by_hash = world.is_there()
    world.catalog.close()
    return Kept(len(ids), by_hash)


@pytest.mark.parametrize("breaks", [fails, dies])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scene", SCENES)
def test_crash_leaves_at_worst_an_orphan(
    scene: str, act: str, breaks: Callable[[Path, Act, int], End], tmp_path: Path
) -> None:
    (prepare, start), (take, change) = SCENES[scene], ACTS[act]
    before, after = start._replace(orphan=False), change(start)  # it is freed in the end
    template = tmp_path / "0"
    template.mkdir()
    world = World(template)
    for step in prepare:
        step(world)
    world.catalog.close()
    for calls in count(1):
        folder = shutil.copytree(template, tmp_path / str(calls))
        end = breaks(folder, take, calls)
        kept = recovered(folder)
        if end is not End.BROKEN:
            break
        assert kept in (before, after)
    assert (end, kept) == ((End.DONE, after) if after else (End.REFUSED, before))
    assert calls > 1  # it broke before it came to its end


# ---- orphans


def test_orphan_is_freed_and_told(world: World) -> None:
    leave_orphan(world)
    assert [row.digest for row in world.catalog.unreferenced()] == [DIGEST.hex]
    assert world.references.free_orphan(DIGEST) is True
    assert not world.is_there()
    assert world.catalog.blob(DIGEST.hex) is None
    assert world.references.free_orphan(DIGEST) is False


@pytest.mark.parametrize("keep", [add_name, store], ids=["name", "by hash"])
def test_orphan_that_is_wanted_after_all(keep: Act, world: World) -> None:
    leave_orphan(world)
    keep(world)
    assert world.references.free_orphan(DIGEST) is False
    assert world.is_there()


def test_orphan_of_a_name_goes_with_the_name_it_is_given(world: World) -> None:
    leave_orphan(world)
    world.references.delete_by_id(add_name(world))
    assert not world.is_there()


@pytest.mark.parametrize("scene", SCENES)
def test_nothing_but_an_orphan_is_freed(scene: str, world: World) -> None:
    prepare, kept = SCENES[scene]
    for step in prepare:
        step(world)
    assert world.references.free_orphan(DIGEST) is kept.orphan
    assert world.is_there() is (kept.is_there() and not kept.orphan)


def test_name_is_deleted_once(world: World) -> None:
    file_id = add_name(world)
    world.references.delete_by_id(file_id)
    with pytest.raises(UnknownFile, match=f"there is no file with the id {file_id}"):
        world.references.delete_by_id(file_id)


def test_delete_by_hash_that_was_cut_off_keeps_nothing(world: World) -> None:
    """The content is gone, and its row still says that it was stored by its hash."""
    file_id = add_name(world)
    store(world)
    world.references.delete_by_id(file_id)
    world.storage.delete(DIGEST)
    world.references.delete_by_id(add_name(world))
    assert not world.is_there()
    assert world.catalog.blob(DIGEST.hex) is None
