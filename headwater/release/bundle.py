"""``release``: a run's order, log, checkpoints, tokenizer and cards in one folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import __version__
from headwater.errors import UnknownName, UsageError
from headwater.export.folder import whole_folder
from headwater.release.cards import as_json, data_card, data_facts, readme
from headwater.release.checkpoints import CHECKPOINTS, write_checkpoints
from headwater.release.files import copy_folder, write_manifest
from headwater.release.order import write_order
from headwater.release.records import TEXT_COLUMNS, write_log, write_recipe, write_tokenizers
from headwater.trace.orders import open_order
from headwater.trace.runs import runs_of, trained_steps
from headwater.training.model_card import card_facts

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.lake.provenance import TableRef
    from headwater.trace.runs import Run


@dataclass(frozen=True, kw_only=True)
class ReleaseReport:
    """What a release holds."""

    folder: str
    run_id: str
    step: int
    orders: tuple[dict[str, Any], ...]
    """Of each stage: table, version, digest, ``num_sequences``, ``order_digest`` and whether it is
    ``complete`` (all columns of the table are there)."""
    log: dict[str, int]
    """Rows by table of the log."""
    checkpoints: int
    """Copied ones."""
    files: int
    bytes: int
    left_out: tuple[str, ...]
    manifest_sha256: str
    """Of ``MANIFEST.json``: publish it beside the folder, and nothing in it can be changed unseen."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def release(
    lake: Lake,
    run_id: str,
    out: str | Path,
    *,
    runs: str | Path = "runs",
    checkpoints: str = "last",
    hf: str | Path | None = None,
    with_text: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ReleaseReport:
    """Write the release of a run into the new folder ``out``.

    The same run of the same lake gives the same bytes: nothing in it tells the time or place of writing.

    Parameters
    ----------
    runs: folder of runs, where the checkpoints are.
    checkpoints: ``all`` that are still there, the ``last``, or ``none`` (they are listed all the same).
    hf: a Hugging Face folder of the model, made by the trainer's export; its model card comes to the top.
    with_text: also the packed documents with their text, the token column and the generated samples.

    Raises
    ------
    UsageError
        ``out`` is in the way, or a wanted checkpoint or model is not there.
    UnknownName, DataMismatch
        No such run, or the lake no longer holds what it read.
    """
    if checkpoints not in CHECKPOINTS:
        raise UnknownName.of("choice of checkpoints", checkpoints, CHECKPOINTS)
    target, model = _target(out), _model(hf)
    say = progress or (lambda _: None)
    (run,) = runs_of(lake, run_id)
    steps = trained_steps(lake, run)
    if not steps.num_rows:
        raise UsageError(f"run {run.run_id} has trained no step", hint="there is nothing to release")
    last = int(steps["step"][-1].as_py())
    orders = [open_order(lake, ref, run_id=run.run_id) for ref in run.tables]
    facts = card_facts(lake, run.run_id, last)
    with whole_folder(target, overwrite=False) as folder:
        written = []
        for i, order in enumerate(orders):
            place = f"order/stage-{i}"

            def shown(done: int, total: int, name: str = str(order.ref)) -> None:
                say(f"{name} {100 * done / max(total, 1):.0f} %")

            found = write_order(folder / place, order, steps, with_tokens=with_text, progress=shown)
            kept = ("table", "version", "digest", "num_sequences", "columns", "order_digest", "complete")
            written.append({"folder": place, **{key: found[key] for key in kept}})
        say("log")
        log = write_log(folder / "log", lake, run.run_id, with_text=with_text)
        write_recipe(folder / "recipe.json", lake, run)
        missing = write_tokenizers(folder / "tokenizer", lake, _tokenizers(lake, run))
        saved = write_checkpoints(folder / "checkpoints", lake, run.run_id, Path(runs), checkpoints, say)
        if model is not None:
            say("model")
            copy_folder(model, folder / "hf")
            (folder / "MODEL_CARD.md").write_bytes((model / "README.md").read_bytes())
        if with_text:
            _write_text(folder, lake, facts.packed, say)
        say("cards")
        data = data_facts(lake, facts)
        (folder / "data_card.json").write_text(as_json(data), encoding="utf-8")
        (folder / "DATA_CARD.md").write_text(data_card(run.run_id, data), encoding="utf-8")
        notes = _notes(lake, with_text, missing, saved, model is not None)
        manifest = {
            "headwater": __version__,
            "run_id": run.run_id,
            "step": last,
            "with_text": with_text,
            "orders": written,
            "left_out": notes,
        }
        (folder / "README.md").write_text(readme(manifest, notes), encoding="utf-8")
        say("digests")
        own = write_manifest(folder, manifest)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return ReleaseReport(
        folder=str(target),
        run_id=run.run_id,
        step=last,
        orders=tuple(written),
        log=log,
        checkpoints=sum(row["copied"] for row in saved),
        files=len(sizes),
        bytes=sum(sizes),
        left_out=tuple(notes),
        manifest_sha256=own,
    )


def _target(out: str | Path) -> Path:
    if "://" in str(out):
        raise UsageError(f"{out} is not a folder", hint="release to a local folder, then upload it")
    target = Path(out).absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise UsageError(f"{out} is there already", hint="name a folder that is not there yet")
    return target


def _model(hf: str | Path | None) -> Path | None:
    if hf is None:
        return None
    missing = [name for name in ("config.json", "README.md") if not (Path(hf) / name).is_file()]
    if missing:
        raise UsageError(
            f"{hf} has no {missing[0]}: it is no Hugging Face folder with a model card",
            hint="python trainer/export_hf.py CHECKPOINT --out DIR makes one",
        )
    return Path(hf)


def _tokenizers(lake: Lake, run: Run) -> list[str]:
    columns = ["run_id", "attempt", "tokenizer_id"]
    rows = lake.table("training_runs").to_arrow(columns).to_pylist()
    mine = sorted((row["attempt"], row["tokenizer_id"]) for row in rows if row["run_id"] == run.run_id)
    return list(dict.fromkeys(each for _, each in mine))


def _write_text(folder: Path, lake: Lake, packed: tuple[TableRef, ...], say: Callable[[str], None]) -> None:
    from headwater.export import export

    for ref in packed:
        say(f"text of {ref}")
        export(
            lake,
            str(ref),
            format="parquet",
            to=folder / "documents" / ref.name.rpartition(".")[2] / str(ref.version),
        )


def _notes(
    lake: Lake, with_text: bool, missing: list[str], saved: list[dict[str, Any]], has_model: bool
) -> list[str]:
    """What the folder does not hold, and why."""
    notes = []
    if not with_text:
        notes.append("text and tokens of the documents: this release holds ids")
        notes += [
            f"{' and '.join(columns)} of {table}: they may repeat text of the documents"
            for table, columns in TEXT_COLUMNS.items()
            if lake.exists(table)
        ]
    notes += [f"tokenizer {each}: it is not in the lake" for each in missing]
    gone = [row["path"] for row in saved if not row["present"]]
    if gone:
        notes.append(f"{len(gone)} of {len(saved)} checkpoints: they are not in the folder of runs")
    if not has_model:
        notes.append("a model card: no Hugging Face export was given")
    return notes
