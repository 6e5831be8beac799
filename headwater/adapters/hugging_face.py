"""Hugging Face's ``Trainer`` over a stream: the same data after a resume, and a log that can be traced.

``Trainer``'s own loaders read ahead of the step they train, hand the batches of an iterable out from rank 0,
and resume by reading everything again. :class:`StreamTrainer` gives it the stream's batches directly, keeps
the stream's position in ``trainer_state.json``, and turns the re-reading off.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.errors import MissingExtra, UsageError
from headwater.streaming import SequenceStream, stream
from headwater.training.run_log import LAST_WAIT_SECONDS, RunLog

try:
    import torch
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise MissingExtra.of("transformers", "train") from error

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

    from headwater.lake import Lake

FIELDS = ("input_ids", "labels", "position_ids", "segment_ids")
PROBE_TOKENS = 8


def stream_for(args: TrainingArguments, lake: Lake, table: str = "sequences", **how: Any) -> SequenceStream:
    """The stream that fits ``args``: its ranks, and as many sequences a step as they train.

    A step takes ``per_device_train_batch_size * gradient_accumulation_steps * processes`` sequences. To
    resume on another number of processes, keep that product. ``how`` goes to
    :func:`headwater.streaming.stream` (``version``, ``pin_memory``, ``cache``).
    """
    return stream(
        lake,
        table,
        dp_rank=args.process_index,
        dp_world_size=args.world_size,
        global_batch_size=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        fields=FIELDS,
        **how,
    )


class StreamTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A ``Trainer`` that trains on a stream.

    The model gets ``input_ids``, ``labels`` and ``position_ids``. Labels are not shifted: transformers'
    causal models shift them. Positions begin at 0 in each document and no attention mask is given, which is
    what tells transformers 5 to keep the documents of a sequence apart (:func:`documents_are_apart` proves
    it for a model). Flash attention does so only for one row, so for it the rows of a micro-batch are laid
    end to end.

    Parameters
    ----------
    data:
        From :func:`stream_for`.
    log_to:
        The lake to log the run to (``training_runs``, ``training_steps``, ``checkpoints``), for ``headwater
        trace``. With ``logging_steps`` above 1 the loss of a step is the mean of its interval.
    """

    def __init__(self, *args: Any, data: SequenceStream, log_to: Lake | None = None, **kwargs: Any) -> None:
        super().__init__(*args, train_dataset=data, **kwargs)
        self.loader = _MicroBatches(self, data)
        self.add_callback(StreamCallback(self.loader, log_to))

    def get_train_dataloader(self) -> Any:
        """The stream's batches; ``Trainer`` moves them to the device by itself."""
        if self.args.restore_callback_states_from_checkpoint:
            raise UsageError(
                "restore_callback_states_from_checkpoint would make a callback without its stream",
                hint="leave it False: the stream's position is restored in any case",
            )
        self.args.ignore_data_skip = True  # the position says where to go on; nothing is read again
        return self.loader


class _MicroBatches:
    """A stream's steps, cut into the micro-batches that ``Trainer`` counts."""

    def __init__(self, trainer: StreamTrainer, data: SequenceStream) -> None:
        self.dataset = data
        self.step_facts: dict[str, int] = {}
        """Of the step that was read last: ``first_sequence``, ``count``, ``tokens`` over all ranks."""
        self._trainer = trainer
        args = trainer.args
        self._rows, self._parts = args.train_batch_size, args.gradient_accumulation_steps
        size, wanted = data.batch_size_at(0), self._rows * self._parts * args.world_size
        if size != wanted or data.batch_size_at(max(data.num_sequences - 1, 0)) != size:
            raise UsageError(
                f"the stream's steps take {size} sequences or change, the training arguments take {wanted} "
                f"({self._rows} per device, {self._parts} accumulated, {args.world_size} processes)",
                hint="open the stream with stream_for(args, lake)",
            )
        self._steps = data.num_sequences // size
        config = getattr(trainer.model, "config", None)
        self._flat = "flash" in str(getattr(config, "_attn_implementation", ""))

    def __len__(self) -> int:
        """Micro-batches in the whole table, wherever the stream stands: ``Trainer`` counts epochs by it."""
        return int(self._steps * self._parts)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for batch in self.dataset:
            tokens = (batch["segment_ids"] >= 0).sum().to(self._trainer.accelerator.device)
            self.step_facts = {
                "first_sequence": batch["first_sequence"],
                "count": batch["count"],
                "tokens": int(self._trainer.accelerator.reduce(tokens, "sum")),
            }
            ids, labels, positions = (batch[k] for k in ("input_ids", "labels", "position_ids"))
            if len(ids) != self._rows * self._parts:
                raise UsageError(
                    f"a step has {len(ids)} sequences for this process, the arguments take "
                    f"{self._rows} * {self._parts}",
                    hint="open the stream with stream_for(args, lake)",
                )
            for part in range(self._parts):
                rows = slice(part * self._rows, (part + 1) * self._rows)
                cut = {"input_ids": ids[rows], "labels": labels[rows], "position_ids": positions[rows].long()}
                yield {k: v.reshape(1, -1) for k, v in cut.items()} if self._flat else cut


class StreamCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Keeps the stream's position in ``trainer_state.json``, goes on from it, and logs every step."""

    def __init__(self, loader: _MicroBatches, log_to: Lake | None) -> None:
        self._loader = loader
        self._data = loader.dataset
        self._lake = log_to
        self._log: RunLog | None = None
        self._run_id: str | None = None
        self._rows: list[dict[str, Any]] = []
        self._waited, self._began = 0.0, 0.0

    def state(self) -> dict[str, Any]:
        """What ``Trainer`` writes into a checkpoint: where to go on, as every rank would say it."""
        return {"args": {}, "attributes": {"loader": self._data.state_dict(), "run_id": self._run_id}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Go on where the checkpoint stands. Raises ``DataMismatch`` when it was taken over other data."""
        if state.global_step:
            saved = state.stateful_callbacks.get(type(self).__name__)
            if not saved:
                raise UsageError(
                    f"the checkpoint of step {state.global_step} holds no position of a stream",
                    hint="it was not written by StreamTrainer: start without resume_from_checkpoint",
                )
            self._data.load_state_dict(saved["attributes"]["loader"])
            self._run_id = saved["attributes"]["run_id"]
        if self._lake is not None and state.is_world_process_zero:
            self._log = self._open_log(self._lake, args, state.global_step)
        self._waited, self._began = self._data.wait_seconds, time.perf_counter()

    def _open_log(self, lake: Lake, args: TrainingArguments, step: int) -> RunLog:
        self._run_id = self._run_id or f"hf-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        out = Path(args.output_dir)
        log = RunLog(lake, out / "headwater" / self._run_id, recipe="transformers")
        log.start(
            self._data.table,
            recipe="transformers",
            config=json.dumps(args.to_sanitized_dict(), sort_keys=True, default=str),
            bypass=self._data.bypass,
            world_size=args.world_size,
            start_step=step,
            resumed_from=f"{out.name}/checkpoint-{step}" if step else None,
        )
        return log

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Note which sequences the step trained on."""
        now, waited = time.perf_counter(), self._data.wait_seconds
        facts: dict[str, Any] = dict(self._loader.step_facts)
        facts["tokens_per_second"] = facts["tokens"] / max(now - self._began, 1e-9)
        facts["data_wait_seconds"] = waited - self._waited
        self._waited, self._began = waited, now
        self._rows.append({"step": state.global_step, "use": "trained", **facts})

    def on_log(self, *_: Any, logs: dict[str, Any] | None = None, **__: Any) -> None:
        """Give the noted steps their loss."""
        if logs and "loss" in logs:
            self._write(**{k: float(logs[k]) for k in ("loss", "grad_norm", "learning_rate") if k in logs})

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """Log the checkpoint; steps that ``Trainer`` has not logged yet go without a loss."""
        self._write(loss=float("nan"))
        if self._log:
            path = f"{Path(args.output_dir).name}/checkpoint-{state.global_step}"
            position = self._data.next_sequence
            self._log.add("checkpoints", step=state.global_step, path=path, next_sequence=position)
            self._log.flush()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Bring the log into the lake."""
        self._write(loss=float("nan"))
        if self._log:
            self._log.flush(wait_seconds=LAST_WAIT_SECONDS)

    def _write(self, **measured: float) -> None:
        for row in self._rows:
            if self._log:
                self._log.add("training_steps", **row, **measured)
        self._rows.clear()
        if self._log:
            self._log.flush_when_due()


@torch.no_grad()  # type: ignore[misc]
def documents_are_apart(model: Any) -> bool:
    """True when ``model`` keeps the documents of a packed sequence apart, as ``StreamTrainer`` feeds it.

    Two documents in one row: other tokens in the first must leave the logits of the second as they are.
    Costs two forward passes over 16 tokens. Run it before a long training with a new model class.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    half = torch.arange(PROBE_TOKENS, device=device)
    ids = torch.cat([half + 1, half + 1])[None]
    other = ids.clone()
    other[:, :PROBE_TOKENS] = PROBE_TOKENS - half
    positions = torch.cat([half, half])[None]
    one, two = (
        model(input_ids=each, position_ids=positions, use_cache=False).logits[:, PROBE_TOKENS:]
        for each in (ids, other)
    )
    model.train(was_training)
    return bool(torch.equal(one, two))
