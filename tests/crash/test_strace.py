"""What is read out of a trace."""

from __future__ import annotations

from pathlib import Path

from tests.crash.strace import injected

TRACE = """\
7 openat(AT_FDCWD, "/a", O_RDONLY) = -1 ENOSPC (No space left on device) (INJECTED)
7 openat(AT_FDCWD, "/store/.catalog.db.locks", O_RDWR <unfinished ...>
8 openat(AT_FDCWD, "/b", O_RDONLY) = 3
8 close(3 <unfinished ...>
7 <... openat resumed>) = -1 ENOSPC (No space left on device) (INJECTED)
8 <... close resumed>) = 0
"""


def test_a_call_that_was_made_to_fail_is_found_with_its_arguments(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(TRACE)
    first, second = injected(log)
    assert '"/a"' in first
    assert '"/store/.catalog.db.locks"' in second
