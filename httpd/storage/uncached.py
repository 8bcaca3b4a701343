"""Writes that leave nothing in the page cache (RWF_DONTCACHE), for what is too big to stay there.

A big upload would push out of memory what others have downloaded, and its pages have to be found
first. Where the kernel (before Linux 6.14) or the file system cannot do it, a write is a usual one.
"""

from __future__ import annotations

import errno
import os

RWF_DONTCACHE = 0x80  # linux/fs.h; Python has no name for it
# What is said where it cannot be done: by the kernel, and by a sandbox that does not know the call.
UNABLE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM}


def write(descriptor: int, content: memoryview, offset: int) -> int:
    """Write at `offset` as pwrite(2) does; return how many bytes. Raises OSError."""
    try:
        return os.pwritev(descriptor, (content,), offset, RWF_DONTCACHE)
    except OSError as error:
        if error.errno not in UNABLE:
            raise
    return os.pwrite(descriptor, content, offset)
