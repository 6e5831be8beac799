"""The plots of an ablation: one HTML file with everything in it, which loads nothing when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from headwater.ablate.words import BETTER, same_and_different
from headwater.report.charts import svg_line, svg_text
from headwater.report.words import count, size
from headwater.whole_files import whole_file

if TYPE_CHECKING:
    from headwater.ablate.results import Measure, Outcome

WIDTH = 932
ROW = 30
LABEL = 210
NOTE = 210

STYLE = Markup("""
:root{--paper:#fcfbf8;--ink:#1b2126;--dim:#667078;--line:#e4e1d8;--kept:#0d6e72;--loss:#bd5a35}
@media (prefers-color-scheme:dark){
:root{--paper:#14181b;--ink:#e7e9e6;--dim:#98a2a8;--line:#2d353a;--kept:#4cb8b5;--loss:#e08a62}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:980px;margin:0 auto;padding:48px 24px 96px}
h1,h2{font-family:Georgia,serif;font-weight:600}h2{font-size:20px;margin:44px 0 4px}
p{max-width:74ch;margin:6px 0 12px}.dim{color:var(--dim);font-size:13px}
svg{display:block;width:100%;height:auto;min-width:640px}figure{margin:8px 0;overflow-x:auto}
svg text{fill:var(--ink);font-size:13px}svg .note,svg .tick{fill:var(--dim);font-size:12.5px}
.grid{stroke:var(--line)}.zero{stroke:var(--dim);stroke-dasharray:3 3}
.bar{stroke:var(--kept);stroke-width:2.5}
.mean{fill:var(--kept)}.seed{fill:none;stroke:var(--dim)}
table{border-collapse:collapse;font-size:13.5px;margin:8px 0}
th{color:var(--dim);font-weight:600;text-align:left}
th,td{padding:5px 18px 5px 0;border-bottom:1px solid var(--line)}.num{text-align:right;white-space:nowrap}
""")


def write_page(found: Outcome, path: Path) -> Path:
    """Write the page and return where it stands; it appears whole or not at all."""
    with whole_file(path, "the page") as scratch:
        scratch.write_text(render(found), encoding="utf-8")
    return path


def render(found: Outcome) -> str:
    """The page as text; whatever comes from data is escaped."""
    title = f"Ablation {found.ablation_id}"
    parts = [
        Markup(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<title>{}</title><style>{}</style></head><body><main><h1>{}</h1>"
        ).format(title, STYLE, title),
        *(Markup("<p>{}</p>").format(line) for line in same_and_different(found)),
        _arms(found),
    ]
    for measure in found.measures:
        unit = "bytes of text" if measure.measure == "bits_per_byte" else "pairs"
        parts.append(
            Markup(
                '<h2>{}: {}</h2><p class="dim">{} {}; {}. Dot: mean; bar: 95 % interval; rings: seeds; '
                "in brackets the difference from the first arm.</p>"
            ).format(
                measure.measure.replace("_", " "), measure.part, count(measure.count), unit,
                BETTER[measure.measure],
            )
        )  # fmt: skip
        parts.append(Markup("<figure>{}</figure>").format(interval_chart(measure)))
    parts.append(Markup("</main></body></html>\n"))
    return str(Markup("").join(parts))


def _arms(found: Outcome) -> Markup:
    rows = [
        Markup(
            '<tr><td>{}</td><td class="num">{}</td><td class="num">{}</td><td class="num">{}</td>'
            "<td>{}</td></tr>"
        ).format(
            arm.arm, count(arm.documents), size(arm.text_bytes),
            "–" if arm.epochs is None else f"{arm.epochs:.3g}", ", ".join(arm.rules),
        )
        for arm in found.arms
    ]  # fmt: skip
    return Markup(
        '<table><tr><th>arm</th><th class="num">documents</th><th class="num">text</th>'
        '<th class="num">epochs</th><th>rules</th></tr>{}</table>'
    ).format(Markup("").join(rows))


def interval_chart(measure: Measure) -> Markup:
    """Arms below each other: every seed, the mean, its interval; the first arm's mean as a line through."""
    percent = measure.measure == "accuracy"
    scale = 100.0 if percent else 1.0
    lows, highs = [], []
    for arm in measure.arms:
        half = arm.value.half_width or 0.0
        lows += [arm.value.mean - half, *arm.seeds.values()]
        highs += [arm.value.mean + half, *arm.seeds.values()]
    low, high = min(lows), max(highs)
    room = (high - low) * 0.06 or 0.01
    low, high = low - room, high + room
    span = WIDTH - LABEL - NOTE
    height = ROW * len(measure.arms) + 30

    def x(value: float) -> float:
        return round(LABEL + (value - low) / (high - low) * span, 1)

    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(svg_line(x(value), 4, x(value), height - 24, "grid"))
        parts.append(
            svg_text(x(value), height - 8, f"{scale * value:.{1 if percent else 3}f}", "middle", "tick")
        )
    first = measure.arms[0].value.mean
    parts.append(svg_line(x(first), 4, x(first), height - 24, "zero"))
    for row, arm in enumerate(measure.arms):
        y = row * ROW + ROW / 2 + 4
        own = arm.value.half_width
        parts.append(svg_text(LABEL - 12, y + 4, arm.arm, "end", "label"))
        if own is not None:
            parts.append(svg_line(x(arm.value.mean - own), y, x(arm.value.mean + own), y, "bar"))
        parts += [
            Markup('<circle class="seed" cx="{}" cy="{}" r="3.5"/>').format(x(v), y)
            for v in arm.seeds.values()
        ]
        parts.append(Markup('<circle class="mean" cx="{}" cy="{}" r="4.5"/>').format(x(arm.value.mean), y))
        note = f"{scale * arm.value.mean:.{1 if percent else 4}f}"
        if arm.difference is not None:
            note += f"  ({scale * arm.difference.mean:+.{1 if percent else 4}f}"
            if arm.difference.half_width is not None:
                note += f" ± {scale * arm.difference.half_width:.{1 if percent else 4}f}"
            note += " *)" if arm.difference.excludes_zero else ")"
        parts.append(svg_text(WIDTH - NOTE + 12, y + 4, note, "start", "note"))
    said = "; ".join(f"{a.arm} {scale * a.value.mean:.4g}" for a in measure.arms)
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>').format(
        WIDTH, height, said, f"{measure.measure} {measure.part}", Markup("").join(parts)
    )
