"""The model card of a checkpoint: which table versions, approvals, tokens and licenses its weights came of.

Everything is read from the lake's records at the moment of writing. Names of sources, people and reasons
come from data: each is escaped, so that none can draw a link, an image or HTML on somebody's page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from headwater import __version__
from headwater.errors import DataMismatch, UnknownName
from headwater.lake.approvals import approval_of_content
from headwater.lake.provenance import TableRef
from headwater.lineage import upstream
from headwater.report.markdown import code, escape
from headwater.report.words import share
from headwater.trace.orders import flat_spans, open_order
from headwater.trace.runs import SKIPPED, Run, config_of, live_rows, runs_of, trained_steps

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.tokenizer import Encoder

MOST_ROWS = 30
"""Rows of a table of sources or licenses; the rest stands in one more."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the lake knows of a checkpoint: of step ``step`` of the run ``run``, skipped steps left out."""

    run: Run
    step: int
    recipe: str
    config: Mapping[str, Any]
    steps: pa.Table
    """The steps that the weights came of, as ``trained_steps`` gives them."""
    sources: tuple[tuple[str, int], ...]
    """Trained tokens by source, the most first."""
    packed: tuple[TableRef, ...]
    """The curated tables that the orders were packed from."""
    closure: tuple[TableRef, ...]
    """What those were made from."""
    licenses: tuple[tuple[str, int, int], ...]
    """License, documents, tokens: of the packed documents, the most tokens first."""
    evaluations: tuple[dict[str, Any], ...]
    """The last evaluation on each table up to the step."""
    num_skipped: int
    num_spikes: int
    losses: tuple[float, float] | None
    """Mean loss of the first and of the last ten steps."""
    gone: tuple[TableRef, ...] = field(default=())
    """Orders that the lake no longer holds."""

    @property
    def num_tokens(self) -> int:
        return int(sum(self.steps["tokens"].to_pylist()))

    @property
    def orders(self) -> list[tuple[TableRef, int, int, int]]:
        """Each order with the first and last step that read it and the tokens trained."""
        refs = {attempt.table.digest: attempt.table for attempt in self.run.attempts}
        found: dict[str, list[int]] = {}
        columns = (self.steps[name].to_pylist() for name in ("digest", "step", "tokens"))
        for digest, step, tokens in zip(*columns, strict=True):
            entry = found.setdefault(digest, [step, step, 0])
            entry[1], entry[2] = step, entry[2] + tokens
        return [(refs[digest], *numbers) for digest, numbers in found.items()]  # type: ignore[misc]


def card_facts(lake: Lake, run_id: str, step: int) -> CardFacts:
    """Gather the card of a checkpoint from the lake. Raises ``UnknownName`` for a run it has no log of."""
    (run,) = runs_of(lake, run_id)
    steps = trained_steps(lake, run, upto_step=step)
    recipe, config = config_of(lake, run_id)
    orders, gone = {}, []
    for ref in dict.fromkeys(a.table for a in run.attempts if a.start_step < step):
        try:
            orders[ref.digest] = open_order(lake, ref, run_id=run_id)
        except (DataMismatch, UnknownName):
            gone.append(ref)
    extras = [order.provenance.extra for order in orders.values()]
    packed = tuple(
        dict.fromkeys(TableRef.from_dict(e["packed_table"]) for e in extras if "packed_table" in e)
    )
    tokens = dict.fromkeys(TableRef.from_dict(e["tokens_table"]) for e in extras if "tokens_table" in e)
    closure = tuple(dict.fromkeys(r for ref in packed for r in upstream(lake, ref) if r not in packed))
    return CardFacts(
        run=run,
        step=step,
        recipe=recipe,
        config=config,
        steps=steps,
        sources=_sources(lake, run_id, steps, orders),
        packed=packed,
        closure=closure,
        licenses=_licenses(lake, packed, closure, list(tokens)),
        evaluations=_evaluations(lake, run_id, step),
        num_skipped=_count(lake, "training_steps", run_id, step, SKIPPED),
        num_spikes=_count(lake, "loss_spikes", run_id, step),
        losses=_ends(lake, run_id, step),
        gone=tuple(gone),
    )


def model_card(lake: Lake, facts: CardFacts, encoder: Encoder, *, num_parameters: int, model: str) -> str:
    """The card as GitHub Markdown with a YAML head, for ``README.md`` beside the weights."""
    blocks = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [headwater]\n---",
        f"# {escape(facts.run.run_id)}, step {facts.step:,}",
        f"{escape(model)} with {num_parameters:,} parameters, trained from random weights on "
        f"{facts.num_tokens:,} tokens by Headwater {__version__}. What it was trained on is on record, down "
        "to the documents of each step.",
        *_data(lake, facts),
        *_shares("Tokens by source", ("source", "tokens"), facts.sources, "Tokens trained up to this step."),
        *_shares(
            "Licenses",
            ("license", "documents", "tokens"),
            facts.licenses,
            "As concluded for the packed documents, by their tokens; weights of the mixture and how far "
            "training came are not in these figures.",
        ),
        "## Tokenizer",
        f"{code(encoder.tokenizer_id)}: {encoder.vocab_size:,} ids; every document ends with "
        f"{escape(encoder.decode([encoder.eos_id]))}. A text that spells a special token is plain text.",
        *_training(facts),
        *_evaluated(facts),
        "## Trace",
        "In the lake that it was trained from:",
        "```sh\n"
        f"headwater trace --checkpoint {facts.run.run_id}@{facts.step}   # every document it saw\n"
        f"headwater trace --step {facts.step} --run {facts.run.run_id}   # the documents of one step\n"
        f"headwater trace --doc DOC_ID   # the steps and checkpoints that saw a document\n```",
    ]
    return "\n\n".join(blocks) + "\n"


def _data(lake: Lake, facts: CardFacts) -> Iterator[str]:
    yield "## Data"
    if not facts.orders:
        yield "No trained step is on record."
        return
    yield _table(
        ["order", "digest", "steps", "tokens"],
        [[code(ref), code(ref.digest), f"{a:,} to {b:,}", f"{n:,}"] for ref, a, b, n in facts.orders],
    )
    for ref in facts.gone:
        yield f"The lake no longer holds {code(ref)} with this digest, and so not what it was packed from."
    bypasses = dict.fromkeys(a.bypass for a in facts.run.attempts if a.bypass and a.start_step < facts.step)
    for bypass in bypasses:
        yield f"**Trained without an approval:** {escape(bypass)}."
    rows = []
    covered: set[TableRef] = set()
    for ref in dict.fromkeys([*(ref for ref, *_ in facts.orders), *facts.packed, *facts.closure]):
        approval = approval_of_content(lake, ref)
        if approval is not None:
            covered.update(approval.closure)
            told = [escape(approval.who), f"{approval.at:%Y-%m-%d}", escape(approval.why)]
        else:
            told = ["", "", "with what was made from it"] if ref in covered else ["nobody", "", ""]
        rows.append([code(ref), code(ref.digest), *told])
    yield "Packed from, and made from, with who approved which version and why:"
    yield _table(["table", "digest", "approved by", "on", "because"], rows)


def _shares(title: str, head: Sequence[str], rows: Sequence[tuple[Any, ...]], says: str) -> Iterator[str]:
    """A table of names and counts, with the share of the last count."""
    if not rows:
        return
    total = sum(row[-1] for row in rows)
    shown = [[escape(name) or "(none)", *counts] for name, *counts in rows[:MOST_ROWS]]
    rest = rows[MOST_ROWS:]
    if rest:
        sums = [sum(row[i] for row in rest) for i in range(1, len(head))]
        shown.append([f"{len(rest):,} more", *sums])
    yield f"## {title}"
    yield says
    cells = [[row[0], *(f"{n:,}" for n in row[1:]), share(row[-1], total)] for row in shown]
    yield _table([*head, "share"], cells)


def _training(facts: CardFacts) -> Iterator[str]:
    yield "## Training"
    sizes = ", ".join(dict.fromkeys(str(a.world_size) for a in facts.run.attempts))
    rows = [
        ["recipe", escape(facts.recipe)],
        ["steps", f"{facts.steps.num_rows:,} trained, {facts.num_skipped:,} skipped"],
        ["attempts", f"{len(facts.run.attempts):,}, on {sizes} processes"],
        ["began", f"{facts.run.attempts[0].started_at:%Y-%m-%d %H:%M} UTC"],
        ["loss spikes", f"{facts.num_spikes:,}"],
    ]
    if facts.losses is not None:
        first, last = facts.losses
        rows.insert(2, ["loss", f"{first:.4f} over the first ten steps, {last:.4f} over the last ten"])
    yield _table(["", ""], rows)
    yield f"```json\n{json.dumps(dict(facts.config), indent=2, sort_keys=True)}\n```"


def _evaluated(facts: CardFacts) -> Iterator[str]:
    if not facts.evaluations:
        return
    yield "## Evaluation"
    yield "Bits per byte of text on held-out tables, and loss per token in nats."
    rows = [
        [
            code(f"{e['table']}@{e['version']}"),
            code(e["digest"]),
            f"{e['step']:,}",
            f"{e['tokens']:,}",
            f"{e['bits_per_byte']:.4f}" if e["bits_per_byte"] is not None else "",
            f"{e['loss']:.4f}" if e["loss"] is not None else "",
        ]
        for e in facts.evaluations
    ]
    yield _table(["table", "digest", "step", "tokens", "bits per byte", "loss"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sources(
    lake: Lake, run_id: str, steps: pa.Table, orders: Mapping[str, Any]
) -> tuple[tuple[str, int], ...]:
    """From the log where it tells sources, else from the spans of the steps' sequences."""
    found: dict[str, int] = {}
    con = duckdb.connect(":memory:")
    try:
        con.register("steps", steps)
        logged = live_rows(lake, "training_sources", run_id)
        none = pa.table({"attempt": pa.array([], pa.int64()), "step": pa.array([], pa.int64())})
        con.register("told", logged.select(["attempt", "step"]) if "source" in logged.schema.names else none)
        if "source" in logged.schema.names:
            con.register("logged", logged)
            sums = con.sql(
                "select source, sum(l.tokens)::bigint from logged l join (select distinct attempt, step from "
                "steps) using (attempt, step) group by source"
            ).fetchall()
            found.update((str(source), int(tokens)) for source, tokens in sums)
        rest = con.sql(
            "select digest, first_sequence, first_sequence + count from steps "
            "anti join told using (attempt, step) order by 1, 2"
        ).fetchall()
    finally:
        con.close()
    for digest, first, stop in _merged(rest):
        if digest in orders:
            for batch in flat_spans(orders[digest], first, stop):
                counted = batch.select(["source", "length"])
                sums_of = pa.Table.from_batches([counted]).group_by("source").aggregate([("length", "sum")])
                for row in sums_of.to_pylist():
                    found[row["source"]] = found.get(row["source"], 0) + row["length_sum"]
    return tuple(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


def _merged(ranges: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Ranges that touch, as one."""
    found: list[tuple[str, int, int]] = []
    for digest, first, stop in ranges:
        if found and found[-1][0] == digest and found[-1][2] == first:
            found[-1] = (digest, found[-1][1], stop)
        else:
            found.append((digest, first, stop))
    return found


def _licenses(
    lake: Lake, packed: Sequence[TableRef], closure: Sequence[TableRef], tokens: Sequence[TableRef]
) -> tuple[tuple[str, int, int], ...]:
    """Documents and tokens by concluded license, where a table of conclusions is upstream."""
    concluded = [ref for ref in closure if ref.name.rpartition(".")[2] == "license_concluded"]
    if not concluded or not tokens:
        return ()
    con = duckdb.connect(":memory:")
    try:
        con.register("licenses", lake.table(concluded[-1].name, concluded[-1].version).to_arrow())
        con.register("sizes", lake.table(tokens[-1].name, tokens[-1].version).scan(["doc_id", "num_tokens"]))
        ids = [lake.table(ref.name, ref.version).to_arrow(["doc_id"]) for ref in packed]
        con.register("packed", pa.concat_tables(ids))
        found = con.sql(
            "select coalesce(license_spdx, ''), count(*), sum(num_tokens)::bigint "
            "from (select distinct doc_id from packed) join sizes using (doc_id) "
            "left join licenses using (doc_id) group by 1 order by 3 desc, 1"
        ).fetchall()
    except (UnknownName, duckdb.Error):  # a version that was cleaned up, or another kind of table
        return ()
    finally:
        con.close()
    return tuple((str(name), int(n), int(size)) for name, n, size in found)


def _evaluations(lake: Lake, run_id: str, step: int) -> tuple[dict[str, Any], ...]:
    rows = [r for r in live_rows(lake, "evaluations", run_id).to_pylist() if r["step"] <= step]
    return tuple({r["table"]: r for r in sorted(rows, key=lambda r: (r["step"], r["attempt"]))}.values())


def _count(lake: Lake, table: str, run_id: str, step: int, use: str | None = None) -> int:
    """How many steps up to ``step`` have a row in the log ``table`` (of this ``use``)."""
    rows = live_rows(lake, table, run_id).to_pylist()
    return len({row["step"] for row in rows if row["step"] <= step and use in (None, row.get("use"))})


def _ends(lake: Lake, run_id: str, step: int) -> tuple[float, float] | None:
    rows = live_rows(lake, "training_steps", run_id)
    if "loss" not in rows.schema.names:
        return None
    pairs = sorted(zip(rows["step"].to_pylist(), rows["loss"].to_pylist(), strict=True))
    losses = [loss for at, loss in pairs if at <= step and loss is not None]
    if not losses:
        return None
    first, last = losses[:10], losses[-10:]
    return sum(first) / len(first), sum(last) / len(last)
