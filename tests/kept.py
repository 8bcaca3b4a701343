"""What may be seen of a content and of an id at the two doors, one request after the other."""

from __future__ import annotations

from typing import NamedTuple

from tests.linearizability import Call


class Kept(NamedTuple):
    """What keeps a content."""

    by_hash: bool = False
    names: frozenset[str] = frozenset()


def content_step(kept: Kept, call: Call) -> Kept | None:
    """Take one request about a content, as if there were no others."""
    is_there = kept.by_hash or bool(kept.names)
    # What has to hold for that answer, and what keeps the content then.
    possible, after = {
        ("store by hash", 200): (True, kept._replace(by_hash=True)),
        ("store by id", 201): (True, kept._replace(names=kept.names | {call.file_id})),
        ("get by hash", 200): (is_there, kept),
        ("get by hash", 404): (not is_there, kept),
        ("delete by hash", 200): (is_there and not kept.names, Kept()),
        ("delete by hash", 404): (not is_there, kept),
        ("delete by hash", 409): (bool(kept.names), kept),
        ("delete by id", 200): (
            call.file_id in kept.names,
            kept._replace(names=kept.names - {call.file_id}),
        ),
    }[call.action, call.status]
    return after if possible else None


def name_step(is_there: bool, call: Call) -> bool | None:  # noqa: FBT001 - it is the state
    """Take one request about an id, as if there were no others."""
    before, after = {
        ("store by id", 201): (False, True),
        ("get by id", 200): (True, True),
        ("get by id", 404): (False, False),
        ("delete by id", 200): (True, False),
        ("delete by id", 404): (False, False),
    }[call.action, call.status]
    return after if is_there is before else None
