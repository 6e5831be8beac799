"""The report page: one HTML file with everything in it, which loads nothing when it is opened.

File names, licenses and samples come from data and are hostile until shown otherwise: the template
escapes everything, there is no script on the page, and its content security policy forbids any.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from headwater import __version__
from headwater.errors import DataMismatch, UnknownName
from headwater.lineage import approvals_of, open_optional
from headwater.report.charts import Stage, bar_chart, funnel_chart, histogram, line_chart, lines_chart, strip
from headwater.report.losses import Funnel, decided, funnel
from headwater.report.page import Distributions, Training, distributions, lineage, training
from headwater.report.training import TrainingDetails, training_details
from headwater.report.words import count, share, size
from headwater.whole_files import whole_file

if TYPE_CHECKING:
    from headwater.lake import Lake

MAX_TRACED = 25
"""Spans of the traced step that are listed."""


def write_report(
    lake: Lake,
    path: str | Path,
    *,
    table: str = "python_textbook",
    project: str = "",
    step: int | None = None,
) -> Path:
    """Write the page about the latest version of a curated table and return where it stands.

    The file appears whole or not at all. ``step`` chooses the training step that is traced back to
    documents; the last one without it.
    """
    target = Path(path)
    html = render(lake, table=table, project=project, step=step)
    with whole_file(target, "the report") as scratch:
        scratch.write_text(html, encoding="utf-8")
    return target


def render(lake: Lake, *, table: str, project: str = "", step: int | None = None) -> str:
    """The page as text."""
    from headwater.lake.approvals import standing

    opened = lake.table(table)
    counted = funnel(lake, opened)
    facts = decided(lake, opened)
    found = distributions(lake, facts)
    trained = training(lake)
    details = training_details(lake, trained.run_id) if trained else TrainingDetails()
    return _template().render(
        version=__version__,
        project=project or lake.schema,
        short=facts.name,
        f=counted,
        d=found,
        training=trained,
        details=details,
        source_curves=lines_chart(details.curves, title="Training loss by source", x_label="step"),
        step=_step(lake, trained, step),
        approvals=[a for a in approvals_of(lake, opened) if a.table.name == opened.name],
        log=list(reversed(standing(lake, [f"{facts.schema}.approvals"])))[:20],
        lineage=lineage(lake, opened),
        **_pictures(counted, found, trained),
    )


def _pictures(f: Funnel, d: Distributions, trained: Training | None) -> dict[str, Any]:
    points = trained.points if trained else ()
    marks = trained.checkpoints if trained else ()
    return {
        "strip": strip([("kept", f.kept, "kept"), ("failed a rule", f.rejected, "loss-only"),
                        ("unknown", f.unknown, "unknown")]),
        "funnel": funnel_chart(_stages(f), f.documents_in),
        "lengths": histogram(d.lengths, title="Documents by length") if d.lengths else "",
        "licenses": bar_chart(d.licenses, title="Documents by license") if d.licenses else "",
        "tiers": bar_chart(d.tiers, title="Documents by license tier") if d.tiers else "",
        "sources": bar_chart(d.sources, title="Documents by source"),
        "curve": line_chart(points, title="Training loss", x_label="step", marked=marks),
    }  # fmt: skip


def _stages(f: Funnel) -> list[Stage]:
    def note(documents: int, text_bytes: int | None) -> str:
        return f"{count(documents)} · {size(text_bytes)}" if f.bytes_in is not None else count(documents)

    stages = [
        Stage(
            label="candidates",
            value=f.documents_in,
            inner=0,
            kind="in",
            note=note(f.documents_in, f.bytes_in),
        )
    ]
    for rule in f.rules:
        stages.append(
            Stage(
                label=rule.rule,
                value=rule.failed,
                inner=rule.only,
                kind="loss",
                note=note(rule.failed, rule.failed_bytes),
            )
        )
    if f.unknown:
        words = note(f.unknown, f.unknown_bytes)
        stages.append(Stage(label="unknown only", value=f.unknown, inner=0, kind="unknown", note=words))
    stages.append(Stage(label="kept", value=f.kept, inner=0, kind="kept", note=note(f.kept, f.kept_bytes)))
    return stages


def _step(lake: Lake, trained: Training | None, step: int | None) -> dict[str, Any] | None:
    """The documents of one training step, largest share first; ``None`` where it cannot be traced."""
    if trained is None or open_optional(lake, "training_runs") is None:
        return None
    from headwater.trace import trace_step

    try:
        seen = trace_step(lake, trained.last_step if step is None else step, trained.run_id)
    except (UnknownName, DataMismatch):
        if step is not None:
            raise
        return None
    rows = sorted(seen.rows, key=lambda row: -row["tokens"])
    return {"seen": seen, "rows": rows[:MAX_TRACED], "more": max(len(rows) - MAX_TRACED, 0)}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, size=size, share=share)
    return environment.from_string((files("headwater.report") / "page.html.j2").read_text("utf-8"))
