"""Line charts as SVG, without a script. Colors are in the style sheet, by a line's class."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 28
_STEPS = 4  # lines of the grid


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a value for each second, oldest first; its name is its class."""

    name: str
    label: str
    values: Sequence[float]


def line_chart(key: str, title: str, lines: Sequence[Line], limit: float | None = None) -> str:
    """Return a chart with its legend.

    :param key: of the page's identifiers.
    :param limit: shown as a line of its own, unless it is far above all others.
    """
    most = max((max(line.values) for line in lines), default=0)
    is_shown = limit is not None and limit <= 5 * max(most, 10)
    top = _round_up(max(most, limit if limit and is_shown else 0))
    svg = [
        f'<svg role="img" aria-labelledby="{key}-title" aria-describedby="{key}-text" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<title id="{key}-title">{escape(title)}</title>',
        f'<desc id="{key}-text">{escape(_spoken(lines, limit))}</desc>',
        *_grid(top, len(lines[0].values)),
    ]
    if limit is not None and is_shown:
        svg.append(_polyline("limit", [limit, limit], top))
    # A line that is 0 throughout would cover the others' zeros.
    svg += [_polyline(line.name, line.values, top) for line in lines if any(line.values)]
    return "\n".join([*svg, "</svg>", _legend(lines, limit)])


def _spoken(lines: Sequence[Line], limit: float | None) -> str:
    now = [
        f"{line.label}: now {line.values[-1]:,.10g}, at most {max(line.values):,.10g}"
        for line in lines
    ]
    return "; ".join(now + ([] if limit is None else [f"the limit is {limit:,.10g}"])) + "."


def _polyline(name: str, values: Sequence[float], top: float) -> str:
    step = (WIDTH - LEFT - RIGHT) / (len(values) - 1)
    points = " ".join(
        f"{LEFT + number * step:.1f},{_height(value, top):.1f}"
        for number, value in enumerate(values)
    )
    return f'<polyline class="line {name}" points="{points}"/>'


def _height(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _grid(top: float, seconds: int) -> Iterator[str]:
    for step in range(_STEPS + 1):
        value = top * step / _STEPS
        y = _height(value, top)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="at-left" x="{LEFT - 8}" y="{y + 4:.1f}">{value:,.10g}</text>'
    for ago in (seconds, seconds // 2, 0):
        x = WIDTH - RIGHT - (WIDTH - LEFT - RIGHT) * ago / seconds
        place = "at-start" if ago == seconds else "at-middle" if ago else "at-end"
        text = f"{ago} s ago" if ago else "now"
        yield f'<text class="{place}" x="{x:.1f}" y="{HEIGHT - 8}">{text}</text>'


def _legend(lines: Sequence[Line], limit: float | None) -> str:
    entries = [(line.name, f"{line.label}: {line.values[-1]:,.10g}") for line in lines]
    if limit is not None:
        entries.append(("limit", f"limit: {limit:,.10g}"))
    shown = (
        f'<li><svg class="key" viewBox="0 0 32 8" aria-hidden="true">'
        f'<line class="line {name}" x1="0" x2="32" y1="4" y2="4"/></svg>{escape(text)}</li>'
        for name, text in entries
    )
    return f'<ul class="legend">{"".join(shown)}</ul>'


def _round_up(value: float) -> float:
    """Return a round number from 4 on, which the lines of the grid divide."""
    scale = 10.0 ** math.floor(math.log10(max(value, 4)))
    return next(f * scale for f in (1, 2, 4, 8, 10, 20) if f * scale >= max(value, 4))
