"""Inline SVG for the report page: small, accessible, themed by the page's CSS variables.

Every text that comes from data passes through ``escape``; the results are ``Markup``, which the
template inserts as they are. A chart is a ``figure``-ready ``<svg role="img">`` with a title and a
description, so that a screen reader says what the picture shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from headwater.report.words import count, end_of, share

WIDTH = 932
"""User units: the width of the page's column in pixels, so that text in a chart has its own size."""
TICK_CHARACTER = 7
"""Width of a character of an axis in user units, at most: of 12.5 pixels, as the page sets them."""
ROW = 26
BAR = 14


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a bar chart. ``inner`` is the part of ``value`` drawn in the strong color."""

    label: str
    value: float
    inner: float
    note: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A row of the funnel. ``kind`` is ``in``, ``loss``, ``unknown`` or ``kept``."""

    label: str
    value: int
    inner: int
    kind: str
    note: str


def funnel_chart(stages: Sequence[Stage], total: int) -> Markup:
    """What came in and what is kept grow from the left; what was taken hangs from the right edge."""
    label, note = 190, 170
    span = WIDTH - label - note
    rows = []
    for i, stage in enumerate(stages):
        y = i * ROW + (ROW - BAR) / 2
        wide = _scaled(stage.value, total, span)
        strong = _scaled(stage.inner, total, span)
        left = label if stage.kind in ("in", "kept") else label + span - wide
        rows.append(svg_text(label - 10, y + BAR - 3, stage.label, "end", "label"))
        rows.append(_rect(label, y, span, BAR, "track"))
        rows.append(_rect(left, y, wide, BAR, f"bar {stage.kind}"))
        if stage.inner and stage.kind == "loss":
            rows.append(_rect(label + span - strong, y, strong, BAR, "bar loss-only"))
        rows.append(svg_text(label + span + 10, y + BAR - 3, stage.note, "start", "note"))
    said = "; ".join(f"{s.label} {count(s.value)}" for s in stages)
    return _svg(len(stages) * ROW, "Funnel", said, rows)


def bar_chart(bars: Sequence[Bar], *, title: str, label_width: int = 220) -> Markup:
    """Horizontal bars, longest possible label cut to fit; the inner part is the strong one."""
    note = 236
    span = WIDTH - label_width - note
    top = max((bar.value for bar in bars), default=0) or 1
    rows = []
    for i, bar in enumerate(bars):
        y = i * ROW + (ROW - BAR) / 2
        rows.append(
            svg_text(label_width - 10, y + BAR - 3, end_of(bar.label, int(label_width / 7)), "end", "label")
        )
        rows.append(_rect(label_width, y, _scaled(bar.value, top, span), BAR, "bar rest"))
        rows.append(_rect(label_width, y, _scaled(bar.inner, top, span), BAR, "bar kept"))
        rows.append(svg_text(WIDTH - note + 10, y + BAR - 3, bar.note, "start", "note"))
    said = "; ".join(f"{b.label}: {b.note}" for b in bars)
    return _svg(len(bars) * ROW, title, said, rows)


def histogram(
    bins: Sequence[tuple[str, int, int]], *, title: str, names: tuple[str, str] = ("kept", "dropped")
) -> Markup:
    """Stacked columns: ``(label of the lower edge, kept, dropped)`` per bin."""
    height, left, bottom = 220, 56, 26
    top = _nice(max((a + b for _, a, b in bins), default=0))
    wide = (WIDTH - left) / max(len(bins), 1)
    plot = height - bottom - 10
    parts = _grid(top, left, 10, plot)
    room = TICK_CHARACTER * (max((len(label) for label, _, _ in bins), default=0) + 1)
    every = math.ceil(room / wide)  # labels that would touch are left out; every column has its title
    for i, (label, kept, dropped) in enumerate(bins):
        x = left + i * wide
        low, high = _scaled(kept, top, plot), _scaled(dropped, top, plot)
        said = f"{label}: {count(kept)} {names[0]}, {count(dropped)} {names[1]}"
        parts.append(Markup("<g><title>{}</title>").format(said))
        parts.append(_rect(x + 1, 10 + plot - low, wide - 2, low, "bar kept"))
        parts.append(_rect(x + 1, 10 + plot - low - high, wide - 2, high, "bar loss"))
        parts.append(Markup("</g>"))
        if i % every == 0:
            parts.append(svg_text(x, height - 8, label, "middle", "tick"))
    kept_all, dropped_all = sum(b[1] for b in bins), sum(b[2] for b in bins)
    said = f"{len(bins)} bins; {count(kept_all)} {names[0]}, {count(dropped_all)} {names[1]}"
    return _svg(height, title, said, parts)


def line_chart(
    points: Sequence[tuple[float, float]], *, title: str, x_label: str, marked: Sequence[float] = ()
) -> Markup:
    """One line over a light grid; ``marked`` are x positions drawn as thin vertical rules (checkpoints)."""
    return lines_chart([("", points)], title=title, x_label=x_label, marked=marked)


def lines_chart(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    title: str,
    x_label: str,
    marked: Sequence[float] = (),
) -> Markup:
    """Named lines over one grid, the i-th of class ``curve c<i>``; nothing where none has two points."""
    lines = [(name, points) for name, points in lines if len(points) > 1]
    if not lines:
        return Markup("")
    height, left, bottom = 240, 56, 34
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    low, high = min(ys), max(ys)
    pad = (high - low) * 0.08 or 1.0
    low, high = max(0.0, low - pad) if low >= 0 else low - pad, high + pad
    plot, span = height - bottom - 10, WIDTH - left - 10
    first, last = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - first) / (last - first) * span, 10 + (high - y) / (high - low) * plot

    parts: list[Markup] = []
    for i in range(5):
        value = low + (high - low) * i / 4
        y = place(first, value)[1]
        parts.append(svg_line(left, y, left + span, y, "grid"))
        parts.append(svg_text(left - 8, y + 4, f"{value:.2f}", "end", "tick"))
    for x in marked:
        if first <= x <= last:
            at = place(x, low)[0]
            parts.append(svg_line(at, 10, at, 10 + plot, "mark"))
    for number, (name, points) in enumerate(lines):
        path = " ".join(
            f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(place(*p) for p in points)
        )
        shown = Markup("<title>{}</title>").format(name) if name else Markup("")
        kind = f"curve c{number}" if number else "curve"
        parts.append(Markup('<path class="{}" d="{}">{}</path>').format(kind, path, shown))
    for i in range(5):
        x = first + (last - first) * i / 4
        anchor = "start" if i == 0 else "end" if i == 4 else "middle"
        parts.append(svg_text(place(x, low)[0], height - 16, count(round(x)), anchor, "tick"))
    parts.append(svg_text(left + span / 2, height - 2, x_label, "middle", "tick"))
    said = "; ".join(
        f"{name}{' ' if name else ''}from {points[0][1]:.3f} at {count(round(points[0][0]))} "
        f"to {points[-1][1]:.3f} at {count(round(points[-1][0]))}"
        for name, points in lines
    )
    return _svg(height, title, said, parts)


def strip(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """One full-width bar split by share: ``(label, value, css class)``; parts too small to see get a hair."""
    total = sum(value for _, value, _ in parts) or 1
    x, drawn = 0.0, []
    for label, value, kind in parts:
        wide = _scaled(value, total, WIDTH)
        said = f"{label}: {count(value)} ({share(value, total)})"
        drawn.append(Markup("<g><title>{}</title>{}</g>").format(said, _rect(x, 0, wide, 22, f"bar {kind}")))
        x += wide
    return _svg(22, "Shares", "; ".join(f"{a} {share(b, total)}" for a, b, _ in parts), drawn, stretch=True)


def _svg(height: float, title: str, said: str, parts: Sequence[Markup], *, stretch: bool = False) -> Markup:
    aspect = Markup(' preserveAspectRatio="none"') if stretch else Markup("")
    return Markup(
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{label}"{aspect}><title>{title}</title>'
        "<desc>{said}</desc>{parts}</svg>"
    ).format(
        w=WIDTH, h=round(height, 1), label=f"{title}: {said}", aspect=aspect, title=title, said=said,
        parts=Markup("").join(parts),
    )  # fmt: skip


def _grid(top: float, left: float, above: float, plot: float) -> list[Markup]:
    parts = []
    for i in range(5):
        y = above + plot - plot * i / 4
        parts.append(svg_line(left, y, WIDTH, y, "grid"))
        parts.append(svg_text(left - 8, y + 4, _short(top * i / 4), "end", "tick"))
    return parts


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"/>').format(
        kind, round(x, 1), round(y, 1), round(max(width, 0), 1), round(max(height, 0), 1)
    )


def svg_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        kind, *(round(v, 1) for v in (x1, y1, x2, y2))
    )


def svg_text(x: float, y: float, words: str, anchor: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, round(x, 1), round(y, 1), anchor, escape(words)
    )


def _scaled(value: float, top: float, span: float) -> float:
    """Pixels of ``value``; something that is not nothing is at least a hair wide."""
    return max(value / top * span, 1.5) if value > 0 and top else 0.0


def _nice(value: float) -> float:
    """The next value that divides into four grid steps which read well."""
    if value <= 4:
        return 4.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most ``most`` points, each the mean of its stretch: what a curve of this width can show."""
    if len(points) <= most:
        return list(points)
    edges = [round(i * len(points) / most) for i in range(most + 1)]
    parts = [points[a:b] for a, b in pairwise(edges) if b > a]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]
