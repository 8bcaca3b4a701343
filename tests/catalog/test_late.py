"""The catalog that comes late is the catalog, and says so where it cannot come."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from httpd.catalog import late
from httpd.catalog.catalog import Catalog
from httpd.catalog.late import LateCatalog
from tests.catalog.samples import a_file, upload
from tests.daemons import PROJECT

# With every descriptor taken nothing can be read, and so nothing imported.
OUT_OF_DESCRIPTORS = """
import resource, sys
from httpd.catalog.errors import CatalogUnavailable
from httpd.catalog.late import LateCatalog
catalog = LateCatalog(sys.argv[1], durable=False, threads=2)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
try:
    catalog.check()
except CatalogUnavailable as error:
    print(error.reason)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
catalog.check()
print("as ever")
"""


def late_catalog(folder: Path) -> LateCatalog:
    return LateCatalog(f"sqlite:///{folder}/names.db", durable=False, threads=4)


def test_it_is_the_catalog(tmp_path: Path) -> None:
    catalog = late_catalog(tmp_path).itself()
    upload(catalog, a_file())
    assert catalog.find(a_file().id) == a_file()


def test_it_is_opened_once_however_many_threads_come_first(tmp_path: Path) -> None:
    catalog = late_catalog(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: catalog.load(), range(16)))
    assert isinstance(opened[0], Catalog)
    assert all(each is opened[0] for each in opened)


def test_what_cannot_be_loaded_now_is_tried_again(tmp_path: Path) -> None:
    line = [sys.executable, "-c", OUT_OF_DESCRIPTORS, f"sqlite:///{tmp_path}/names.db"]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True)
    reason, then = done.stdout.splitlines()
    assert reason.startswith("its code cannot be loaded: ")
    assert "Too many open files" in reason
    assert then == "as ever"


@pytest.mark.parametrize("whole", [False, True], ids=["at-once", "whole"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:hunter2@h/d", "begins with"),
        ("sqlite:///:memory:", "several workers"),
        ("sqlite://a.db", "three slashes"),
        ("postgresql://u:hunter2@h:port/d", "form"),
    ],
)
def test_url_is_refused_beforehand(url: str, reason: str, *, whole: bool) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        late.prepare(url, whole=whole)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", ["sqlalchemy", "_sqlite3"])
def test_package_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what makes it as good as not installed
    with pytest.raises(ValueError, match=f"not installed.*{name}"):
        late.prepare("sqlite:////a.db", whole=False)
