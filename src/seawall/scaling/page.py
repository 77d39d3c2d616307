"""Runs side by side as a page: one file of HTML, without scripts and without foreign servers.

Light or dark as the reader's system is. The best figure of each column is marked, unless all are
the same, for the one that is cheapest is seldom the one that fails nobody: all of them are to be
read together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from seawall.scaling.simulate import Run, Score

WIDTH, HEIGHT = 640, 150  # of a chart, in its own units

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f3f5f8; --text: #1c2430; --dim: #5c6675;
  --ready: #1d4f9e; --short: #c0322b; --best: #0b6b3a; --back: #fff; }
@media (prefers-color-scheme: dark) { :root { --line: #333b47; --soft: #1a2029; --text: #e4e8ee;
  --dim: #9aa5b4; --ready: #86b4f5; --short: #f08b84; --best: #5fce93; --back: #12161c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; }
h2 { margin: 0; font-size: 1.05rem; font-family: ui-monospace, monospace; }
p { margin: .25rem 0; color: var(--dim); }
.scroll { overflow-x: auto; margin: 1.5rem 0 2rem; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--dim); font-size: .85rem; vertical-align: top; }
small { font-weight: 400; white-space: normal; display: block; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; }
.best { color: var(--best); font-weight: 600; }
.best::after { content: " \\2713"; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .5rem; }
svg { display: block; width: 100%; height: auto; margin-top: .5rem; }
text { fill: var(--dim); font-size: 13px; }
.needed { fill: none; stroke: var(--dim); stroke-dasharray: 4 3; }
.ready { fill: none; stroke: var(--ready); stroke-width: 2; }
.short { fill: var(--short); fill-opacity: .35; }
.floor { stroke: var(--line); }
.key { display: inline-block; width: 1.5rem; border-top: 2px solid var(--ready);
  vertical-align: middle; margin: 0 .35rem 0 1rem; }
.key.n { border-top: 2px dashed var(--dim); }
.key.s { border-top: .6rem solid var(--short); opacity: .5; }
"""


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    means: str
    of: Callable[[Score], float]
    shown: Callable[[float], str]

    def text(self, score: Score) -> str:
        return self.shown(self.of(score))

    def best(self, scores: Sequence[Score]) -> str | None:
        """What the best of them shows; None where all show the same."""
        if len({self.text(score) for score in scores}) < 2:
            return None
        return self.text(min(scores, key=self.of))


_COLUMNS = (
    _Column("cost", "replica-hours", lambda s: s.hours, lambda v: f"{v:,.1f} h"),
    _Column("shed", "found the queue full", lambda s: s.shed, lambda v: f"{v:.3%}"),
    _Column("late", "shed, or waited too long", lambda s: s.violations, lambda v: f"{v:.3%}"),
    _Column("p99", "of a request's time", lambda s: s.p99, lambda v: f"{v * 1000:,.0f} ms"),
    _Column("short", "of the time", lambda s: s.under_time, lambda v: f"{v:.2%}"),
    _Column("longest short", "in a row", lambda s: s.longest_under, lambda v: f"{v:,.0f} s"),
    _Column("peak", "replicas", lambda s: s.peak, lambda v: f"{v:,.0f}"),
    _Column("changes", "an hour", lambda s: s.changes, lambda v: f"{v:,.1f}"),
    _Column("turns", "an hour: oscillation", lambda s: s.reversals, lambda v: f"{v:,.1f}"),
)


def page(title: str, runs: Mapping[str, Run], notes: Mapping[str, str] | None = None) -> str:
    """The whole page. Charts have one scale, so that they can be compared; a note is below that of
    its name."""
    body = "\n".join(_body(title, runs, notes or {}))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: strategies of scaling</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{body}\n"
        "</main>\n</body>\n</html>\n"
    )


def _body(title: str, runs: Mapping[str, Run], notes: Mapping[str, str]) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield "<p>The same load, served by what each strategy asked for."
    yield "A mark is the best of a column; where all are the same there is none.</p>"
    heads = "".join(
        f'<th scope="col" title="{escape(each.means)}">{each.title}'
        f"<small>{escape(each.means)}</small></th>"
        for each in _COLUMNS
    )
    yield f'<div class="scroll"><table><thead><tr><th scope="col">strategy</th>{heads}</tr></thead>'
    best = {each.title: each.best([run.score for run in runs.values()]) for each in _COLUMNS}
    for name, run in runs.items():
        yield f'<tr><th scope="row">{escape(name)}</th>{_cells(run.score, best)}</tr>'
    yield "</table></div>"
    yield (
        '<p><span class="key n"></span>needed <span class="key"></span>ready'
        ' <span class="key s"></span>too few</p>'
    )
    highest = max((max(*run.needed, *run.ready, 1) for run in runs.values()), default=1)
    yield '<div class="charts">'
    for name, run in runs.items():
        yield _chart(name, run, highest, notes.get(name, ""))
    yield "</div>"


def _cells(score: Score, best: Mapping[str, str | None]) -> str:
    cells = []
    for each in _COLUMNS:
        shown = each.text(score)
        mark = ' class="best"' if shown == best[each.title] else ""
        cells.append(f"<td{mark}>{shown}</td>")
    return "".join(cells)


def _chart(name: str, run: Run, highest: int, note: str) -> str:
    needed, ready = _points(run.needed, highest), _points(run.ready, highest)
    lower = [min(pair) for pair in zip(run.needed, run.ready, strict=True)]
    outline = " ".join([*needed, *reversed(_points(lower, highest))])
    below = f"<p>{escape(note)}</p>" if note else ""
    told = f"{escape(name)}: at most {max(run.ready)} replicas ready, {max(run.needed)} needed"
    return (
        f'<figure><h2>{escape(name)}</h2><svg viewBox="-30 -8 {WIDTH + 36} {HEIGHT + 26}" '
        f'role="img" aria-label="{told}">'
        f'<line class="floor" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f'<text x="-6" y="4" text-anchor="end">{highest}</text>'
        f'<text x="-6" y="{HEIGHT}" text-anchor="end">0</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{_length(run.seconds)}</text>'
        f'<polygon class="short" points="{outline}"/>'
        f'<polyline class="needed" points="{" ".join(needed)}"/>'
        f'<polyline class="ready" points="{" ".join(ready)}"/></svg>{below}</figure>'
    )


def _points(values: tuple[int, ...] | list[int], highest: int) -> list[str]:
    wide = WIDTH / max(1, len(values) - 1)
    return [
        f"{number * wide:.1f},{HEIGHT - value / highest * HEIGHT:.1f}"
        for number, value in enumerate(values)
    ]


def _length(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
