"""The user and the group that the daemon runs as."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from httpd.config import BadOption, Settings

T = TypeVar("T")


class Identity(NamedTuple):
    """Numbers of a user, of its group, and of all the groups that it is in."""

    user: int
    group: int
    groups: list[int]

    def take_groups(self) -> None:
        """Leave the groups of whoever started us; the last thing that still needs root.

        DaemonContext does the rest. Its own `initgroups` leaves the primary group as it was, and
        without it a daemon would keep those that root is in.
        """
        if os.geteuid() == 0:
            os.setgroups(self.groups)

    def become(self) -> None:
        """Be this user from now on, where no DaemonContext sees to it."""
        self.take_groups()
        if os.geteuid() == 0:
            os.setgid(self.group)
            os.setuid(self.user)

    def give(self, path: Path) -> None:
        """Make this user the owner of a file that root has made for it."""
        if os.geteuid() == 0:
            os.chown(path, self.user, self.group, follow_symlinks=False)


def find_identity(settings: Settings) -> Identity:
    """Look up --user and --group. Raises BadOption."""
    user, group, name = os.getuid(), os.getgid(), None
    if settings.user is not None:
        account = _look_up(settings.user, pwd.getpwnam, pwd.getpwuid)
        if account is not None:
            user, group, name = account.pw_uid, account.pw_gid, account.pw_name
        else:
            user = group = _number(settings.user, "--user")
    if settings.group is not None:
        entry = _look_up(settings.group, grp.getgrnam, grp.getgrgid)
        group = entry.gr_gid if entry else _number(settings.group, "--group")
    if (user, group) != (os.getuid(), os.getgid()) and os.geteuid() != 0:
        raise BadOption("--user and --group: only root can run it as somebody else")
    if settings.user is None and settings.group is None:
        return Identity(user, group, os.getgroups())
    return Identity(user, group, os.getgrouplist(name, group) if name else [group])


def _look_up(text: str, by_name: Callable[[str], T], by_number: Callable[[int], T]) -> T | None:
    try:
        return by_number(int(text)) if text.isdecimal() else by_name(text)
    except KeyError:
        return None


def _number(text: str, title: str) -> int:
    """Return the number of a user or group that has no entry, as is usual in containers."""
    if not text.isdecimal():
        raise BadOption(f"{title}: there is no {text!r}")
    return int(text)
