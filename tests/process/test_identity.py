from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from httpd import config
from httpd.config import BadOption
from httpd.process.identity import Identity, find_identity

NOBODY = pwd.getpwnam("nobody")
OTHER_GROUP = next(entry for entry in grp.getgrall() if entry.gr_gid != NOBODY.pw_gid)


def find(*flags: str) -> Identity:
    return find_identity(config.read(flags, Path("/"), ())[1])


def test_nobody_else_unless_told() -> None:
    assert find() == (os.getuid(), os.getgid(), os.getgroups())


@pytest.mark.root
@pytest.mark.parametrize(
    ("flags", "user", "group"),
    [
        (["--user=nobody"], NOBODY.pw_uid, NOBODY.pw_gid),
        ([f"--user={NOBODY.pw_uid}"], NOBODY.pw_uid, NOBODY.pw_gid),
        (["--user=nobody", f"--group={OTHER_GROUP.gr_name}"], NOBODY.pw_uid, OTHER_GROUP.gr_gid),
        ([f"--group={OTHER_GROUP.gr_gid}"], 0, OTHER_GROUP.gr_gid),
        (["--user=4000000000"], 4000000000, 4000000000),
        (["--user=4000000000", "--group=4000000001"], 4000000000, 4000000001),
    ],
)
def test_names_and_numbers(flags: list[str], user: int, group: int) -> None:
    identity = find(*flags)
    assert (identity.user, identity.group) == (user, group)
    assert group in identity.groups


@pytest.mark.parametrize(
    "flags", [["--user=no-such-one"], ["--group=no-such-one"], ["--user=nobody", "--group=-1"]]
)
def test_unknown_name(flags: list[str]) -> None:
    with pytest.raises(BadOption, match=r"there is no '(no-such-one|-1)'"):
        find(*flags)


def test_only_root_can_be_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadOption, match="only root"):
        find("--user=4000000000")
    assert find(f"--user={os.getuid()}", f"--group={os.getgid()}").user == os.getuid()
