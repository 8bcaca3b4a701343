"""The benchmark's own logic: what is read, compared, judged and shown. No load."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import cases, chart, machine, report, rounds, tables, targets
from bench.cases import Case
from bench.clients import crowd, transfer, wrk
from bench.peers import PEERS, Filestored, Md5sum, Nginx, Peer
from bench.results import Results, Spread
from bench.stand import BigFile, Stand, Targets, layouts
from tests.daemons import Daemon, until

OURS, NGINX = Filestored.title, Nginx.title
TURNS = ("one", "x", OURS), ("one", "x", NGINX)
MIB = 1 << 20


def results_of(case: str, **samples: list[dict[str, float]]) -> Results:
    """Return results of one case in the layout `one`, by the names of the peers' classes."""
    titles = {kind.__name__: kind.title for kind in PEERS}
    results = Results()
    for name, seen in samples.items():
        for sample in seen:
            results.add("one", case, titles[name], sample)
    return results


# Who has a turn


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["one"], ["F", "N", "N", "F", "F", "N"]),
        # Of either server both layouts come one after the other.
        (["one", "all"], ["F", "F all", "N", "N all", "N all", "N", "F all", "F"]),
    ],
)
def test_another_server_is_first_in_each_round(
    keys: list[str], expected: list[str], tmp_path: Path
) -> None:
    big = BigFile(tmp_path / "big", MIB)
    stands = []
    for key in keys:
        (tmp_path / key).mkdir()
        layout, kinds = layouts()[key], [Filestored, Nginx]
        stands.append(Stand(tmp_path / key, layout, kinds, 1, big, started=False))
    turns: list[str] = []

    def measure(stand: Stand, peer: Peer) -> dict[str, float]:
        turns.append(type(peer).__name__[0] + (" all" if stand.layout.key == "all" else ""))
        return {"rps": len(turns)}

    case = Case("get", "a GET", "get", "rps", measure)
    rounds.alternate(stands, case, len(expected) // len(keys) // 2, results := Results())
    assert turns == expected
    for key in keys:
        assert results.medians(key, "get", OURS)


def test_room_is_made_and_left(tmp_path: Path) -> None:
    big = BigFile(tmp_path / "big", MIB)
    big.make_room()
    assert os.listdir(tmp_path) == ["big"]


# What is read


TOLD = """Running 2s test @ http://127.0.0.1:21000
  2 threads and 64 connections
Requests/sec:  20000.00
told: p99=5200 requests=40001 duration=2000050 failed=0 refused=0 p999=8000 p50=3100
"""


def test_what_wrk_tells() -> None:
    told = wrk.parse(TOLD, cpu=0.5)
    assert told == wrk.Told(40001, 2.00005, 3.1, 5.2, 8.0, 0.5)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (TOLD.replace("refused=0", "refused=7"), "7 of 40001 requests refused, 0 failed"),
        (TOLD.replace("failed=0", "failed=3"), "0 of 40001 requests refused, 3 failed"),
        (TOLD.replace("requests=40001", "requests=0"), "0 of 0"),
        ("unable to connect to 127.0.0.1:1 Connection refused\n", "unable to connect"),
    ],
)
def test_a_run_that_went_wrong_gives_no_figures(output: str, reason: str) -> None:
    with pytest.raises(wrk.Failed, match=reason):
        wrk.parse(output, cpu=0.5)


def test_the_type_of_a_file_system() -> None:
    assert machine.file_system(Path("/proc/self")) == "proc"
    assert machine.file_system(Path("/proc/sys/../1")) == "proc"


# What is compared


def test_medians_are_of_each_figure() -> None:
    results = results_of("x", Nginx=[{"rate": 1, "cpu": 9}, {"rate": 5, "cpu": 7}, {"rate": 2}])
    assert results.medians("one", "x", NGINX) == {"rate": 2, "cpu": 8}
    assert results.medians("all", "x", NGINX) == {}


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was busy in the second round: both medians, and their ratio, would be others.
    results = results_of(
        "x",
        Filestored=[{"rate": 20}, {"rate": 3}, {"rate": 22}],
        Nginx=[{"rate": 10}, {"rate": 2}, {"rate": 20}],
    )
    assert results.ratio("rate", *TURNS) == Spread(1.5, 1.1, 2.0)


def test_a_round_that_failed_for_one_counts_for_neither() -> None:
    results = results_of(
        "x", Filestored=[{"rate": 8}, {}, {"rate": 6}], Nginx=[{"rate": 4}, {"rate": 1}, {}]
    )
    assert results.ratio("rate", *TURNS) == Spread(2.0, 2.0, 2.0)
    assert results.ratio("p99", *TURNS) is None


def test_results_are_saved_whole(tmp_path: Path) -> None:
    results = results_of("x", Nginx=[{"rate": 1}, {}])
    results.facts, results.versions = {"kernel": "Linux"}, {NGINX: "1.22"}
    results.save(tmp_path / "there" / "results.json")
    assert vars(Results.load(tmp_path / "there" / "results.json")) == vars(results)


def test_how_even_the_machine_was() -> None:
    assert machine.rhythm([13.0, 22.4, 14.6]) == "13 ms at best, 15 in the middle, 22 at worst"
    assert 0 < machine.pulse() < 60_000


# What is planned


def test_big_files_leave_room_on_the_disk_and_in_memory() -> None:
    memory = 2 * len(PEERS) * 1024 * MIB
    assert rounds.affordable(1024 * MIB, 200 * 1024 * MIB, memory) == 1024 * MIB
    assert rounds.affordable(1024 * MIB, 3200 * MIB, memory) == 100 * MIB
    assert rounds.affordable(1024 * MIB, 200 * 1024 * MIB, memory // 8) == 128 * MIB


def test_every_case_of_a_plan_is_one_that_is_there() -> None:
    keys = {case.key for case in rounds.CASES}
    for plan in (rounds.FULL, rounds.QUICK):
        assert {case for stage in plan.stages for case in stage.cases} <= keys
    shown = {(column.layout, column.case) for table in tables.TABLES for column in table.columns}
    assert shown <= {
        (layout, case)
        for stage in rounds.FULL.stages
        for layout, case in product(stage.layouts, stage.cases)
    }


def test_a_part_of_a_plan() -> None:
    part = rounds.FULL.only("post")
    assert [stage.cases for stage in part.stages] == [
        ("post 1", "post 16"),
        ("post 64",),
    ]


# What is judged


def target(bound: float, *, at_least: bool) -> targets.Target:
    find = targets.beside(Nginx, "one", "x", "rate")
    return targets.Target("the work", " ×", bound, at_least, find)


@pytest.mark.parametrize(
    ("rate", "bound", "at_least", "verdict"),
    [
        (1.0, 1, True, "met"),
        (0.996, 1, True, "met"),  # it is shown as 1.00
        (0.994, 1, True, "**missed**"),
        (1.104, 1.1, False, "met"),
        (1.106, 1.1, False, "**missed**"),
        (1234.0, 1233, False, "**missed**"),
    ],
)
def test_a_verdict(rate: float, bound: float, verdict: str, *, at_least: bool) -> None:
    results = results_of("x", Filestored=[{"rate": rate}], Nginx=[{"rate": 1}])
    assert target(bound, at_least=at_least).verdict(results) == verdict


def test_a_row_shows_what_the_verdict_is_about() -> None:
    results = results_of(
        "x", Filestored=[{"rate": 3}, {"rate": 5}, {"rate": 4}], Nginx=[{"rate": 2}] * 3
    )
    row = target(2, at_least=True).row(results)
    assert row == ["the work", "2.00 ×", "1.50 … 2.50", "at least 2.00 ×", "met"]
    nothing = target(2, at_least=False).row(Results())
    assert nothing == ["the work", "–", "–", "at most 2.00 ×", "not measured"]


def test_what_all_workers_have_the_cpu_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "WORKERS", 4)
    results = results_of("x", Filestored=[{"cpu": 30}, {"cpu": 60}, {"cpu": 40}])
    assert targets.scaling("x")(results) is None
    for cpu in (40, 60, 32):
        results.add("all", "x", OURS, {"cpu": cpu})
    assert targets.scaling("x")(results) == Spread(4.0, 3.0, 5.0)


def test_a_figure_of_its_own_shows_its_spread_where_it_has_one() -> None:
    work = targets.Target("the work", " s", 2, False, targets.own("one", "x", "start"))
    results = results_of("x", Filestored=[{"start": 3.0}, {}, {"start": 1.0}, {"start": 1.5}])
    assert work.row(results) == ["the work", "1.50 s", "1.00 … 3.00", "at most 2.00 s", "met"]
    once = results_of("x", Filestored=[{"start": 3.0}])
    assert work.row(once) == ["the work", "3.00 s", "–", "at most 2.00 s", "**missed**"]
    assert work.verdict(results_of("x", Filestored=[{}])) == "not measured"


def test_downloads_beside_idle_connections_are_compared_with_their_neighbours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order = ""
    crowded = False

    @contextmanager
    def idle(*_: object) -> Iterator[None]:
        nonlocal crowded
        crowded = True
        yield
        crowded = False

    def load(*_: object) -> dict[str, float]:
        nonlocal order
        order += "ab"[crowded]
        return {"p99": (1 + (len(order) - 1) // 2) * (1.5 if crowded else 1)}  # ever slower

    monkeypatch.setattr(cases, "small", lambda *_: load)
    monkeypatch.setattr(cases, "IDLE_TURNS", 4)
    monkeypatch.setattr(crowd, "idle", idle)
    monkeypatch.setattr(crowd, "most_idle", lambda wanted: wanted)
    with Stand(tmp_path, layouts()["one"], [], 1, BigFile(tmp_path, 1), started=False) as stand:
        monkeypatch.setattr(stand, "restart", lambda _: None)
        monkeypatch.setattr(stand, "targets", lambda *_: Targets("", tmp_path, ""))
        sample = cases.beside_idle(stand, Nginx(tmp_path))
    assert order == "abbaabba"
    assert sample["p99 ratio"] == 1.5
    assert (sample["p99 alone"], sample["p99 beside"]) == (2.5, 3.75)


# What is shown


def test_a_table_has_rows_for_those_that_took_part() -> None:
    results = results_of("x", Filestored=[{"rate": 12345.6, "cpu": 36.4}], Nginx=[{"p50": 1}])
    columns = [tables.Column("4 KiB", "one", "x", tables.rate_and_cpu)]
    shown = tables.Table("Downloads", "A second.", columns).render(results)
    assert shown == (
        "## Downloads\n\nA second.\n\n"
        "|            |       4 KiB |\n"
        "| ---------- | ----------: |\n"
        "| filestored | 12,346 · 36 |"
    )


FIGURES = (
    "rate,cpu,client,p50,p99,p999,up,up_cpu,down,down_cpu,up seconds,count,each,p99 alone,"
    "p99 beside,p99 ratio,idle,a worker,above,size,start,stop"
)


@pytest.fixture
def measured() -> Results:
    """Return results that have a figure for everything."""
    results = Results()
    results.facts, results.versions = {"kernel": "Linux 6"}, {NGINX: "1.22"}
    figures = dict.fromkeys(FIGURES.split(","), 2.0)
    for stage in rounds.FULL.stages:
        for layout, case, kind in product(stage.layouts, stage.cases, stage.peers):
            results.add(layout, case, kind.title, figures)
    return results


def test_the_page_has_all_targets_tables_and_facts(measured: Results) -> None:
    page = report.document(measured)
    assert not re.search(r"[{}]|not measured", page)
    for each in targets.TARGETS:
        assert f"| {each.work} " in page
    for table in tables.TABLES:
        assert f"## {table.heading}\n" in page
    assert "| kernel | Linux 6 |" in page
    assert re.search(r"^\| nginx +\| +1\.22 \|$", page, re.MULTILINE)


def test_the_page_of_a_run_that_measured_nothing() -> None:
    page = report.document(Results())
    assert page.count("not measured") == len(targets.TARGETS)


def test_every_target_can_be_found(measured: Results) -> None:
    for each in (*targets.TARGETS, *targets.QUICK):
        assert each.find(measured) is not None, each.work


GROUP = chart.Group("Downloads <fast>", "one", "x", "rate", Nginx)


def test_bars_are_as_long_as_their_values_beside_the_reference() -> None:
    results = results_of("x", Filestored=[{"rate": 150}], Nginx=[{"rate": 100}])
    assert chart.bars(GROUP, results) == [(OURS, 150, 1.5), (NGINX, 100, 1.0)]
    assert chart.bars(GROUP, results_of("x", Filestored=[{"rate": 150}])) == []


def test_the_chart_is_drawn_to_scale_and_cut_off() -> None:
    results = results_of("x", Filestored=[{"rate": 500}], Nginx=[{"rate": 100}])
    drawn = ElementTree.fromstring(chart.svg((GROUP,), results))
    shapes = drawn.findall("{*}rect")
    lengths = {each.get("class"): float(each.get("width", "")) for each in shapes}
    assert lengths["ours"] == chart.BARS  # five times as much, cut off at LONGEST
    assert lengths["others"] == chart.BARS / chart.LONGEST
    texts = [each.text for each in drawn.findall("{*}text")]
    assert "Downloads <fast>" in texts
    assert "500 · 5.00 ×" in texts


# Big transfers


def test_a_file_goes_up_and_comes_down(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(os.urandom(3 * MIB))
    daemon.start()
    digest = transfer.send(daemon.port, "POST", "/", file, lead=b"before it ").decode()
    stored = daemon.store / digest[:2] / digest
    assert stored.read_bytes() == b"before it " + file.read_bytes()
    assert transfer.fetch(daemon.port, f"/?file_hash={digest}") == 3 * MIB + 10


def test_a_server_holds_one_big_file_for_all_its_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = BigFile(tmp_path / "big", 3 * MIB)
    send, sent = transfer.send, []

    def noted(port: int, method: str, target: str, file: Path) -> bytes:
        sent.append(file)
        return send(port, method, target, file)

    monkeypatch.setattr(transfer, "send", noted)
    with Stand(tmp_path, layouts()["one"], [Filestored], 1, big, started=True) as stand:
        (peer,) = stand.peers
        for _ in range(2):
            assert cases.download(stand, peer)["down"] > 0
        assert sent == [big.path]
        (held,) = peer.folder.glob("**/??/" + "?" * 32)
        assert held.stat().st_size == 3 * MIB
    assert not held.exists()


def test_an_upload_that_is_broken_off_leaves_nothing(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(bytes(3 * MIB))
    daemon.start()
    answer = transfer.send(daemon.port, "POST", "/", file, pace=1000 * MIB, goes_on=lambda: False)
    assert answer == b""
    until(lambda: daemon.staged() == [], "what had been received stays")


def test_a_refusal_is_no_transfer(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 100)
    daemon.start()
    with pytest.raises(wrk.Failed, match="405"):
        transfer.send(daemon.port, "PUT", "/", tmp_path / "big")
    with pytest.raises(wrk.Failed, match="404"):
        transfer.fetch(daemon.port, f"/?file_hash={'0' * 32}")


def test_md5sum_takes_a_file_by_reading_it(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(MIB))
    hasher = Md5sum(tmp_path)
    hasher.start(sorted(os.sched_getaffinity(0)))
    hasher.read(tmp_path / "big")
    with pytest.raises(subprocess.CalledProcessError):
        hasher.read(tmp_path / "missing")
