"""The plots of a self-training experiment: one HTML file, which loads nothing when it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from headwater.ablate.page import STYLE, interval_chart
from headwater.ablate.results import Measure, Measured
from headwater.report.charts import lines_chart
from headwater.report.words import count
from headwater.synthesis.self_training.results import BASE, ROUND
from headwater.whole_files import whole_file

if TYPE_CHECKING:
    from headwater.synthesis.self_training.results import Outcome

_CURVES = Markup("""
.curve{fill:none;stroke:var(--dim);stroke-width:1.3}.curve.c0{stroke:var(--kept);stroke-width:3}
""")


def write_page(found: Outcome, path: Path) -> Path:
    """Write the page and return where it stands; it appears whole or not at all."""
    with whole_file(path, "the page") as scratch:
        scratch.write_text(render(found), encoding="utf-8")
    return path


def render(found: Outcome) -> str:
    """The page as text; whatever comes from data is escaped."""
    title = f"Self-training: {found.recipe}"
    seeds = sorted({seed for line in found.lines_of for seed in line.seeds})
    chart = interval_chart(_measure(found))
    return str(
        Markup(
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            "<title>{0}</title><style>{1}{2}</style></head><body><main><h1>{0}</h1>"
            "<p>Share of {3} held-out problems whose one greedy answer is right. Every round tunes the base "
            "on what was verified of the last model's samples; the control tunes it as long on its own "
            "demonstrations. {4} seeds.</p>"
            '<h2>Arms</h2><p class="dim">Dot: mean; bar: 95 % t interval over seeds; rings: seeds; in '
            "brackets the difference to the base, paired by seed.</p><figure>{5}</figure>"
            '<h2>Rounds</h2><p class="dim">In percent. Thick: mean; thin: seeds.</p><figure>{6}</figure>'
            "{7}</main></body></html>\n"
        ).format(
            title, STYLE, _CURVES, count(found.problems), len(seeds), chart, _rounds(found), _table(found)
        )
    )


def _measure(found: Outcome) -> Measure:
    arms = tuple(
        Measured(arm=line.label, value=line.pass_at_1, difference=line.gain, seeds=line.seeds)
        for line in found.lines_of
    )
    return Measure(measure="accuracy", part="pass@1", count=found.problems, arms=arms)


def _rounds(found: Outcome) -> Markup:
    steps = [line for line in found.lines_of if line.arm in (BASE, ROUND)]
    means = [(float(line.round_number), 100 * line.pass_at_1.mean) for line in steps]
    seeds = sorted({seed for line in steps for seed in line.seeds})
    curves = [
        (
            f"seed {seed}",
            [(float(line.round_number), 100 * line.seeds[seed]) for line in steps if seed in line.seeds],
        )
        for seed in seeds
    ]
    marked = [x for x, _ in means]
    return lines_chart([("mean", means), *curves], title="pass@1 by round", x_label="round", marked=marked)


def _table(found: Outcome) -> Markup:
    names = ("seed", "arm", "round", "passed", "pass_at_1", "low", "high", "sampled", "right", "kept_rows")
    rows = []
    for row in found.rows:
        cells = [row[name] for name in names]
        shown = [
            "–" if cell is None else f"{100 * cell:.1f} %" if isinstance(cell, float) else str(cell)
            for cell in cells
        ]
        rows.append(
            Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in shown))
        )
    head = Markup("").join(Markup("<th>{}</th>").format(name.replace("_", " ")) for name in names)
    return Markup("<h2>Every model</h2><table><tr>{}</tr>{}</table>").format(head, Markup("").join(rows))
