"""What the daemon counts (floor 1): numbers that all of its processes share.

Counting takes no system call and waits for nobody; who wants to see the numbers adds them up
(`reading.py`), and `app/metrics.py` shows them.
"""

from httpd.metrics.counting import (
    WORKER_RESTARTS,
    add,
    blob_added,
    blob_removed,
    descriptor,
    join,
    observe_flush,
    open_board,
    upload,
)

__all__ = [
    "WORKER_RESTARTS", "add", "blob_added", "blob_removed", "descriptor", "join", "observe_flush",
    "open_board", "upload",
]  # fmt: skip
