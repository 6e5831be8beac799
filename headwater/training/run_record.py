"""What rank 0 of a training run tells: to the lake, to the screen, to TensorBoard."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.training.checkpoints import saved
from headwater.training.run_log import LAST_WAIT_SECONDS, RunLog
from headwater.training.tensorboard import TensorBoardLog

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.streaming import SequenceStream

ROWS = 12
"""Steps that are printed on the way; a terminal shows the others on one line."""


def new_run_id(recipe: str) -> str:
    """A name for a run: its recipe, when it began (UTC), and four random digits."""
    name = recipe.rpartition(":")[2]
    return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


class RunRecord:
    """One attempt's record. Opening it notes the attempt itself: recipe, table, version, where it began.

    Parameters
    ----------
    config:
        The recipe's settings, as plain data.
    resumed_from:
        The checkpoint that the attempt goes on from.
    about:
        The model and its hardware, for the first line.
    """

    def __init__(
        self,
        lake: Lake,
        folder: Path,
        data: SequenceStream,
        *,
        recipe: str,
        config: Mapping[str, Any],
        world_size: int,
        start_step: int,
        last_step: int,
        resumed_from: Path | None,
        about: str,
        tensorboard: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self.folder, self.quiet = folder, quiet
        self.first, self.last = start_step, last_step
        self.board = TensorBoardLog(tensorboard) if tensorboard else None
        self.log = RunLog(lake, folder, recipe=recipe)
        self.log.start(
            data.table,
            recipe=recipe,
            config=json.dumps(config, sort_keys=True),
            bypass=data.bypass,
            world_size=world_size,
            start_step=start_step,
            resumed_from=f"{folder.name}/{resumed_from.name}" if resumed_from else None,
        )
        self._losses: list[float] = []
        self._tokens = 0
        self._began = time.perf_counter()
        self.say(
            f"run {folder.name}: {about}, {data.table.ref} "
            f"({data.num_sequences:,} sequences of {data.sequence_length})"
        )
        if resumed_from:
            self.say(f"resumed from {resumed_from.name} at sequence {data.next_sequence:,}")
        if data.bypass:
            _warn(f"warning: {data.bypass}; the run records it")

    def say(self, text: str, *, always: bool = False) -> None:
        """A line on the screen; with ``quiet`` only one that is wanted ``always``."""
        if always or not self.quiet:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def step(self, facts: Mapping[str, Any], sources: Mapping[str, tuple[int, float | None]]) -> None:
        """A row of ``training_steps``, and each source's tokens and loss in it."""
        step = facts["step"]
        self.log.add("training_steps", **facts)
        for source, (tokens, loss) in sources.items():
            self.log.add("training_sources", step=step, source=source, tokens=tokens, loss=loss)
        if self.board:
            self.board.step(facts, sources)
        if facts["use"] == "skipped":
            end = facts["first_sequence"] + facts["count"] - 1
            self.say(f"{step:>6}  skipped: sequences {facts['first_sequence']:,} to {end:,}")
            return
        if not self._losses:
            self.say("  step     loss  grad norm  learning rate  tokens/s  data wait")
        self._losses.append(facts["loss"])
        self._tokens += facts["tokens"]
        row = (
            f"{step:>6}  {facts['loss']:7.4f}  {facts['grad_norm']:9.3f}  {facts['learning_rate']:13.2e}  "
            f"{facts['tokens_per_second']:8,.0f}  {facts['data_wait_seconds']:8.4f}s"
        )
        tty = sys.stdout.isatty() and not self.quiet
        every = max(1, (self.last - self.first) // ROWS)
        if (step - self.first) % every == 0 or len(self._losses) == 1 or step == self.last:
            self.say(("\r" if tty else "") + row)
        elif tty:
            sys.stdout.write(f"\r{row}  of {self.last}")
            sys.stdout.flush()

    def spike(self, facts: Mapping[str, Any], expected: float, documents: Sequence[dict[str, Any]]) -> None:
        """A loss far above what was expected, with the documents that it came of."""
        where = {key: facts[key] for key in ("step", "loss", "first_sequence", "count")}
        self.log.add("loss_spikes", **where, expected=expected, documents=documents)
        most = f", most by {documents[0]['doc_id']} of {documents[0]['source']}" if documents else ""
        self.say(f"{facts['step']:>6}  loss spike: {facts['loss']:.4f}, expected {expected:.4f}{most}")

    def saved(self, checkpoint: Path, state: Mapping[str, Any]) -> None:
        """A checkpoint has become final."""
        where = f"{self.folder.name}/{checkpoint.name}"
        after = state["loader"]["next_sequence"]
        self.log.add("checkpoints", step=state["step"], path=where, next_sequence=after)
        self.log.flush()

    def evaluated(
        self, step: int, found: Sequence[dict[str, Any]], samples: Sequence[dict[str, str]]
    ) -> None:
        """Rows of ``evaluations`` and ``generation_samples``."""
        for row in found:
            self.log.add("evaluations", step=step, **row)
            self.say(f"{step:>6}  {row['table']}: {row['bits_per_byte']:.4f} bits per byte")
        for sample in samples:
            self.log.add("generation_samples", step=step, **sample)
            self.say(f"{step:>6}  {sample['prompt']!r} -> {sample['text']!r}")
        if self.board:
            self.board.evaluations(step, found)

    def refused(self, facts: Mapping[str, Any], documents: Sequence[dict[str, Any]]) -> tuple[str, str]:
        """A step whose loss or gradient is not finite: no weights came of it, so it counts as skipped.

        Returns the message and the hint of the error that ends the run.
        """
        self.log.add("training_steps", **{**facts, "use": "skipped"})
        self.log.flush(wait_seconds=LAST_WAIT_SECONDS)
        step, first = facts["step"], facts["first_sequence"]
        last, kept = first + facts["count"] - 1, saved(self.folder)
        worst = "".join(
            f"\n  {d['doc_id']} of {d['source']}: loss {d['loss']:.4g} over {d['tokens']} tokens "
            f"in sequence {d['sequence_index']}"
            for d in documents[:5]
        )
        again = f"--resume {self.folder.name} " if kept else ""
        return (
            f"step {step} over sequences {first} to {last}: loss {facts['loss']}, gradient norm "
            f"{facts['grad_norm']}; the optimizer was not called. Its documents, the worst first:{worst}",
            f"last checkpoint: {kept[-1] if kept else 'none'}; all documents: headwater trace --step {step} "
            f"--run {self.folder.name}; to go on past this batch: {again}--skip {first}:{last}",
        )

    def end(self, step: int, *, stopped: bool) -> None:
        """The summary, when everything is written."""
        self.log.flush(wait_seconds=LAST_WAIT_SECONDS)
        if self.board:
            self.board.close()
        seconds = time.perf_counter() - self._began
        curve = f"loss {self._losses[0]:.4f} -> {self._losses[-1]:.4f}, " if self._losses else ""
        self.say(
            f"trained steps {self.first + 1} to {step}: {curve}{self._tokens:,} tokens in {seconds:.1f} s "
            f"({self._tokens / seconds:,.0f} tokens/s); checkpoint {saved(self.folder)[-1]}",
            always=True,
        )
        if stopped:
            self.say(f"stopped by a signal; to go on: --resume {self.folder.name}", always=True)
        if self.log.num_pending:
            _warn(
                f"{self.log.num_pending} log rows wait in {self.folder / 'pending.jsonl'}: the lake was "
                "busy; the next --resume writes them"
            )


def _warn(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
