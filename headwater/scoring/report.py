"""A page about a scorer: its validation, its calibration plot, and what it scores highest and lowest."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import pyarrow as pa
from markupsafe import Markup

from headwater.educational import LABELS
from headwater.errors import UnknownName, UsageError
from headwater.lineage import open_optional
from headwater.report.charts import svg_line, svg_text
from headwater.report.narrow import connection, literal, load, one, rows
from headwater.scoring.artifact import SHIPPED, Scorer, read
from headwater.scoring.fit import CLUSTERS
from headwater.scoring.labels import DOCUMENTS
from headwater.scoring.store import ROWS
from headwater.scoring.store import load as load_scorer
from headwater.sql import run
from headwater.whole_files import whole_file

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

NUM_FILES = 20


@dataclass(frozen=True, kw_only=True)
class ScorerReport:
    """What the page shows."""

    title: str
    quality: Mapping[str, Any]
    facts: Mapping[str, Any]
    knots: list[float]
    values: list[float]
    scores: str | None
    """The version of the table of scores that the files come from."""
    quantiles: Mapping[str, float]
    num_labeled: int
    """Scored documents that it was trained on, or near-copies of one: they are not among the ends."""
    highest: list[dict[str, Any]]
    lowest: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def report_facts(
    lake: Lake, name: str, *, scores: str = "edu_scores", num_files: int = NUM_FILES
) -> ScorerReport:
    """The facts of a scorer of the lake (or one that comes with Headwater), and the ends of its scores."""
    scorer, title = _open(lake, name)
    quality = scorer.facts.get("quality")
    if not isinstance(quality, dict):
        raise UsageError(f"the scorer {name} holds no figures of its quality", hint="fit it again")
    table = open_optional(lake, scores)
    ends = _Ends([], [], {}, 0)
    if table is not None:
        ends = _ends(lake, table, num_files, _trained_on(lake, name, scorer))
    return ScorerReport(
        title=title,
        quality=quality,
        facts={k: v for k, v in scorer.facts.items() if k != "quality"},
        knots=scorer.calibration.knots.tolist(),
        values=scorer.calibration.values.tolist(),
        scores=str(table.ref) if table is not None else None,
        quantiles=ends.quantiles,
        num_labeled=ends.num_labeled,
        highest=ends.highest,
        lowest=ends.lowest,
    )


def _open(lake: Lake, name: str) -> tuple[Scorer, str]:
    try:
        found = load_scorer(lake, name)
    except UnknownName:
        if name not in SHIPPED:
            raise
        scorer = read(name)
        return scorer, f"{name} {scorer.digest} (comes with Headwater)"
    return found.scorer, f"{found.name}@{found.version} {found.digest}"


class _Ends(NamedTuple):
    highest: list[dict[str, Any]]
    lowest: list[dict[str, Any]]
    quantiles: dict[str, float]
    num_labeled: int


def _trained_on(lake: Lake, name: str, scorer: Scorer) -> pa.Array:
    """Hashes of the texts that the scorer learned from, as far as this lake knows them."""
    if name in SHIPPED and read(name).digest == scorer.digest:
        with LABELS.open(newline="", encoding="utf-8") as file:
            return pa.array([bytes.fromhex(row["text_hash"]) for row in csv.DictReader(file)], pa.binary(16))
    table = open_optional(lake, ROWS)
    if table is None:
        return pa.array([], pa.binary(16))
    stored = load_scorer(lake, name)
    where = f"name = {literal(stored.name)} and version = {stored.version}"
    return table.to_arrow(["text_hash"], filter=where)["text_hash"].combine_chunks()


def _ends(lake: Lake, table: Table, number: int, trained_on: pa.Array) -> _Ends:
    """The files with the highest and the lowest scores, near-copies once: a file in twenty packages would
    fill the list. What was trained on stands at the ends because it is known, so it is left out."""
    base, clusters = lake.table(DOCUMENTS), open_optional(lake, CLUSTERS)
    with connection() as con:
        load(con, "scored", table, ["doc_id", "edu_score", "edu_score_raw"])
        load(con, "documents", base, ["doc_id", "text_hash", "source", "path", "text_bytes"])
        con.register("trained", pa.table({"text_hash": trained_on}))
        run(
            con, "create temp table known as select doc_id from documents semi join trained using (text_hash)"
        )
        run(con, "create temp table clusters (doc_id blob, cluster_id blob)")
        if clusters is not None:
            load(con, "clusters", clusters, ["doc_id", "cluster_id"])
            run(
                con,
                "insert into known select doc_id from clusters where cluster_id in "
                "(select cluster_id from clusters semi join known using (doc_id))",
            )
        query = (
            "select d.source, d.path, d.text_bytes, s.edu_score as score, s.edu_score_raw as raw, "
            "lower(hex(d.doc_id)) as doc_id from scored s join documents d using (doc_id) "
            "anti join known using (doc_id) "
            "left join clusters k using (doc_id) "
            "qualify row_number() over (partition by coalesce(k.cluster_id, d.text_hash) "
            "order by s.edu_score_raw desc, d.doc_id) = 1 "
            "order by s.edu_score_raw {way}, d.doc_id limit $number"
        )
        high, low = (rows(con, query.format(way=way), {"number": number}) for way in ("desc", "asc"))
        [quantiles] = rows(
            con,
            "select min(edu_score) as lowest, quantile_cont(edu_score, 0.2) as p20, "
            "median(edu_score) as median, quantile_cont(edu_score, 0.8) as p80, "
            "quantile_cont(edu_score, 0.95) as p95, "
            "max(edu_score) as highest from scored",
        )
        labeled = int(one(con, "select count(*) from scored semi join known using (doc_id)")[0])
    return _Ends(high, low, quantiles, labeled)


def calibration_plot(
    bins: Sequence[Mapping[str, Any]], knots: Sequence[float], values: Sequence[float]
) -> Markup:
    """Mean label against mean calibrated score by bin, with twice the standard error; and the curve from raw
    scores to labels."""
    size, left, top = 340, 44, 14
    low, high = 0.0, 5.0

    def x(value: float, shift: float = 0.0) -> float:
        return shift + left + (min(max(value, low), high) - low) / (high - low) * size

    def y(value: float) -> float:
        return top + size - (min(max(value, low), high) - low) / (high - low) * size

    def frame(shift: float, name: str) -> list[Markup]:
        parts = []
        for i in range(6):
            parts.append(svg_line(x(0, shift), y(i), x(5, shift), y(i), "grid"))
            parts.append(svg_text(x(0, shift) - 8, y(i) + 4, str(i), "end", "words"))
            parts.append(svg_text(x(i, shift), y(0) + 18, str(i), "middle", "words"))
        parts.append(svg_text(x(2.5, shift), y(0) + 36, name, "middle", "words"))
        return parts

    right = size + left + 40
    parts = frame(0, "calibrated score (held out)") + frame(right, "raw score")
    parts.append(svg_line(x(0), y(0), x(5), y(5), "mark"))
    for each in bins:
        error = 2 * (each["label_error"] or 0.0)
        at, said = (
            x(each["predicted"]),
            f"{each['num_rows']} files: score {each['predicted']:.2f}, label {each['label']:.2f}",
        )
        parts.append(svg_line(at, y(each["label"] - error), at, y(each["label"] + error), "error"))
        parts.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(
                round(at, 1), round(y(each["label"]), 1), said
            )
        )
    points = [
        (min(low, knots[0]), values[0]),
        *zip(knots, values, strict=True),
        (max(high, knots[-1]), values[-1]),
    ]
    path = " ".join(
        f"{'M' if i == 0 else 'L'}{x(a, right):.1f} {y(b):.1f}" for i, (a, b) in enumerate(points)
    )
    parts.append(Markup('<path class="curve" d="{}"/>').format(path))
    said = "; ".join(f"score {b['predicted']:.2f} label {b['label']:.2f}" for b in bins)
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Calibration plot"><title>Calibration</title>'
        "<desc>{}</desc>{}</svg>"
    ).format(2 * right, size + top + 44, said, Markup("").join(parts))


def render(found: ScorerReport) -> str:
    """The page as text. It loads nothing, and runs no script."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = lambda value, places=2: "–" if value is None else f"{value:.{places}f}"
    plot = calibration_plot(found.quality["reliability"], found.knots, found.values)
    template = (files("headwater.scoring") / "report.html.j2").read_text("utf-8")
    return environment.from_string(template).render(r=found, q=found.quality, plot=plot)


def write_report(found: ScorerReport, path: str | Path) -> Path:
    """Write the page; it appears whole or not at all."""
    target = Path(path)
    with whole_file(target, "the report") as scratch:
        scratch.write_text(render(found), encoding="utf-8")
    return target
