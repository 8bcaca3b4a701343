"""The chart: bars beside a reference, as SVG for light and for dark pages.

Own code and no plotting library: it is a hundred lines, and a library would bring tens of megabytes
for bars whose colours it does not let follow the reader's page.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape

from bench.peers import Aiohttp, Copyparty, Filestored, Md5sum, Nginx, Peer, SeaweedFS, Undurable
from bench.results import Results


class Group(NamedTuple):
    """Bars of one kind of work."""

    title: str
    layout: str
    case: str
    figure: str
    reference: type[Peer]  # whose bar is as long as 1


class Bar(NamedTuple):
    """One server in a group."""

    title: str
    value: float
    length: float  # as a multiple of the reference's


GROUPS = (
    Group("GET 4 KiB, 64 connections: requests a second", "one", "get 4k 64", "rate", Nginx),
    Group(
        "A new connection for each GET of 4 KiB: requests a second", "one", "close", "rate", Nginx
    ),
    Group("4 KiB out of 1 MiB (a range): requests a second", "one", "range", "rate", Nginx),
    Group("POST 4 KiB, 64 connections: uploads a second", "one", "post 64", "rate", Nginx),
    Group("GET of a big file: MiB a second", "one", "big down", "down", Nginx),
    Group("POST of a big file, all cores: MiB a second", "all", "big up", "up", Md5sum),
)
SHOWN = (Filestored, Undurable, Nginx, SeaweedFS, Copyparty, Aiohttp, Md5sum)
LONGEST = 2.0  # a bar that is longer is cut off, and says its value all the same

WIDTH, NAMES, BARS = 760, 190, 440  # pixels: of all, of the servers' names, up to LONGEST
LINE, BAR, GAP, MARGIN = 20, 13, 16, 14
STYLE = """
  .page { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e }
  .ours { fill: #0969da } .others { fill: #afb8c1 } .one { stroke: #59636e }
  text { font: 12px system-ui, sans-serif } .title { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .text { fill: #f0f6fc } .faint { fill: #9198a1 }
    .ours { fill: #4493f8 } .others { fill: #656c76 } .one { stroke: #9198a1 }
  }
"""


def bars(group: Group, results: Results) -> list[Bar]:
    """Return the bars of a group; none where its reference is missing."""
    values = {
        kind.title: results.medians(group.layout, group.case, kind.title).get(group.figure)
        for kind in SHOWN
    }
    one = values[group.reference.title]
    if not one:
        return []
    return [Bar(title, value, value / one) for title, value in values.items() if value]


def svg(groups: tuple[Group, ...], results: Results) -> str:
    """Draw the groups one below the other."""
    drawn: list[str] = []
    top = MARGIN
    for group in groups:
        if shown := bars(group, results):
            drawn += _group(group, shown, top)
            top += LINE * (1 + len(shown)) + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}"'
        f' height="{top}" role="img">\n<title>filestored beside other servers</title>\n'
        f'<style>{STYLE}</style>\n<rect class="page" width="{WIDTH}" height="{top}" rx="6"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def _group(group: Group, shown: list[Bar], top: int) -> list[str]:
    one = NAMES + BARS / LONGEST
    bottom = top + LINE * (1 + len(shown))
    reference = f"× {group.reference.title.replace('`', '').split()[0]}"
    drawn = [
        _text(MARGIN, top + 14, group.title, "text title"),
        f'<line class="one" x1="{one}" x2="{one}" y1="{top + LINE}" y2="{bottom}"'
        ' stroke-dasharray="2 3"/>',
        _text(WIDTH - MARGIN, top + 14, reference, "faint", "end"),
    ]
    for number, bar in enumerate(shown, 1):
        y = top + LINE * number
        length = BARS * min(bar.length, LONGEST) / LONGEST
        kind = "ours" if bar.title.startswith(Filestored.title) else "others"
        value = f"{bar.value:,.0f} · {bar.length:.2f} ×"
        drawn += [
            _text(NAMES - 8, y + 14, bar.title.replace("`", ""), "text", "end"),
            f'<rect class="{kind}" x="{NAMES}" y="{y + 4}" width="{length:.1f}" height="{BAR}"'
            ' rx="2"/>',
            _text(WIDTH - MARGIN, y + 14, value, "faint", "end"),
        ]
    return drawn


def _text(x: int, y: int, content: str, style: str, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'
