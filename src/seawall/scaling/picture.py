"""A run as a picture: SVG for a page, a row of bars for a terminal."""

from collections.abc import Mapping, Sequence
from html import escape

from seawall.scaling.simulate import Run

WIDTH, HEIGHT = 760, 150  # of one run, in pixels
MARGIN, HEAD = 46, 26

_BARS = " ▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[int], width: int = 48) -> str:
    """The most of equal parts, each as high as it is beside the highest."""
    if not values:
        return ""
    highest = max(1, *values)
    parts = [
        values[place * len(values) // width : max(1, (place + 1) * len(values) // width)]
        for place in range(min(width, len(values)))
    ]
    return "".join(_BARS[-(-max(part, default=0) * 8 // highest)] for part in parts)


def svg(title: str, runs: Mapping[str, Run]) -> str:
    """Under each other: what was needed (grey) and what was ready (blue); red where it was less."""
    height = HEAD + len(runs) * (HEIGHT + HEAD)
    highest = max((max(*run.needed, *run.ready, 1) for run in runs.values()), default=1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * MARGIN} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<text x="{MARGIN}" y="17" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, run) in enumerate(runs.items()):
        top = HEAD + number * (HEIGHT + HEAD)
        parts.append(_one(name, run, top, highest))
    return "\n".join([*parts, "</svg>\n"])


def _one(name: str, run: Run, top: int, highest: int) -> str:
    score = run.score
    told = (
        f"{name}: {score.hours:.1f} replica-hours, short {score.under_time:.2%} of the time, "
        f"{score.shed:.3%} shed"
    )
    needed = _points(run.needed, top, highest)
    short = [min(n, r) for n, r in zip(run.needed, run.ready, strict=True)]
    back = " ".join(reversed(_points(short, top, highest).split()))
    bottom = top + HEAD + HEIGHT
    return "\n".join(
        [
            f'<text x="{MARGIN}" y="{top + 17}">{escape(told)}</text>',
            f'<line x1="{MARGIN}" x2="{MARGIN + WIDTH}" y1="{bottom}" y2="{bottom}" '
            'stroke="#bbb"/>',
            f'<text x="{MARGIN - 6}" y="{top + HEAD + 10}" text-anchor="end">{highest}</text>',
            f'<polygon points="{needed} {back}" fill="#d33" fill-opacity="0.5"/>',
            f'<polyline points="{needed}" fill="none" stroke="#888"/>',
            f'<polyline points="{_points(run.ready, top, highest)}" fill="none" '
            'stroke="#1667c0" stroke-width="1.5"/>',
        ]
    )


def _points(values: Sequence[int], top: int, highest: int) -> str:
    wide = WIDTH / max(1, len(values) - 1)
    return " ".join(
        f"{MARGIN + number * wide:.1f},{top + HEAD + HEIGHT - value / highest * HEIGHT:.1f}"
        for number, value in enumerate(values)
    )
