"""Pretrain on a packed table: ``torchrun --nproc-per-node N trainer/train.py RECIPE``.

Reads ``sequences`` with ``headwater.streaming``, shards with FSDP2, and logs every step to the lake. A
resumed run goes on exactly where its checkpoint stands, on any number of processes.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import math
import os
import signal
import sys
import time
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import metrics
import torch
import torch.distributed as dist
from checkpoint import Checkpoints, load, read_state, saved
from evaluate import evaluate, generate_samples
from model import build_model, learning_rate, make_optimizer, shard, token_losses
from recipe import Recipe, check_recipe, find_recipe
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import _set_pg_timeout

from headwater import tokenizer
from headwater.errors import DataMismatch, HeadwaterError, UsageError
from headwater.lake import Lake
from headwater.lake.names import read_version
from headwater.streaming import SequenceStream, stream
from headwater.training.checkpoints import find_checkpoint
from headwater.training.initial_weights import start_from
from headwater.training.run_record import RunRecord, new_run_id

RANK = int(os.environ.get("RANK", "0"))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))
LOCAL_RANK = int(os.environ.get("LOCAL_RANK", "0"))

PR_SET_PDEATHSIG = 1  # linux/prctl.h

START = timedelta(minutes=5)
"""A process waits so long for the others until the first step, which compiles, ends; then ``--timeout``."""

GRACE_SECONDS = 10.0
"""How long other ranks hold back an error that rank 0 most likely tells too."""

LOST = ("closed by peer", "reset by peer", "timed out", "broken pipe", "remote process exited")
"""What gloo and NCCL say when another process is gone or hangs."""


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        recipe = find_recipe(args.recipe)
        if args.seed is not None:
            recipe = dataclasses.replace(recipe, seed=args.seed)
        _start_processes()
        Run(args, recipe).train()
    except Exception as error:
        _tell(error)
        return error.exit_code if isinstance(error, HeadwaterError) else 1
    dist.destroy_process_group()
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="train.py", description=about, formatter_class=formatter)
    add = parser.add_argument
    add("recipe", help="a function of trainer/recipes, or path/to/file.py:function")
    add("--lake", default="lake", help="path or URI of the lake")
    add("--target", default="dev", help="schema of the lake; prod trains on approved data only")
    add("--table", default="sequences", help="packed table")
    add("--version", help="a number, a tag or 'approved'; without it approved in prod, else the latest")
    add("--out", default=Path("runs"), type=Path, help="folder of runs and their checkpoints")
    add("--max-steps", type=int, help="stop after this step; the schedule stays the recipe's")
    add("--seed", type=int, help="of the fresh weights; without it the recipe's")
    init = "begin with a checkpoint's or a Hugging Face folder's weights"
    add("--init", type=Path, metavar="DIR", help=init)
    resume = "go on with a run (RUN@STEP: from that checkpoint), or the recipe's latest"
    add("--resume", nargs="?", const="", metavar="RUN", help=resume)
    skip = "step over the batches that hold sequences FIRST to LAST; may be given again"
    add("--skip", action="append", type=_range, default=[], metavar="FIRST:LAST", help=skip)
    add("--evaluate", action="append", default=[], metavar="TABLE", help="held-out table; may be given again")
    add("--evaluate-every", type=int, metavar="STEPS", help="also on the way, not at the end only")
    add("--evaluate-sequences", type=int, default=256, metavar="N", help="of each table")
    add("--samples", type=int, default=0, metavar="N", help="texts to generate at each evaluation")
    add("--tensorboard", type=Path, metavar="DIR", help="write the metrics there, too")
    add("--export", type=Path, metavar="DIR", help="at the end, write a Hugging Face folder")
    add("--timeout", type=float, default=45.0, help="seconds to wait for other processes, after step 1")
    add("--quiet", action="store_true", help="print the summary only")
    return parser.parse_args(argv)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition(":")
    return int(first), int(last)  # argparse turns a ValueError into wrong use


def _start_processes() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(LOCAL_RANK)
    if "RANK" in os.environ and sys.platform == "linux":
        # torchrun puts each rank into a session of its own: killed, it would leave them training on.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    # Without torchrun: a plain script, one process.
    dist.init_process_group(backend, timeout=START, **alone)


class Run:
    """One attempt at a run: its folder, its data, its model, and where it stands."""

    def __init__(self, args: argparse.Namespace, recipe: Recipe) -> None:
        self.recipe, self.args = recipe, args
        self.device = torch.device(f"cuda:{LOCAL_RANK}" if torch.cuda.is_available() else "cpu")
        self.lake = Lake(args.lake, schema=args.target)
        self.resumed = None if args.resume is None else find_checkpoint(args.out, args.resume, args.recipe)
        names = [new_run_id(args.recipe)]
        dist.broadcast_object_list(names)  # rank 0's, on every rank
        self.folder = self.resumed.parent if self.resumed else args.out / names[0]
        self.skip: list[tuple[int, int]] = args.skip
        self.step, self.signal, self.stopping = 0, 0, False
        self.init: dict[str, str] = {}
        self.data = self._open_data()
        for table in args.evaluate:
            self.lake.table(table)  # a wrong name is told now
        if args.export and args.export.exists():
            raise UsageError(f"{args.export} is there already", hint="choose another --export, or remove it")
        self.last_step = min(args.max_steps or recipe.max_steps, self.step + len(self.data))
        vocab, length = self.data.vocab_size, self.data.sequence_length
        self.model = build_model(recipe, vocab, length, self.device)
        if args.init and not self.resumed:
            encoder = tokenizer.load(self.lake, self.data.tokenizer_id)
            digest = start_from(args.init, self.model, encoder, self.lake)
            self.init = {"init": str(args.init), "init_digest": digest}
        self.peak = metrics.peak_flops(self.device)
        self.flops = metrics.flops_per_token(self.model.config, length) if self.peak else 0.0
        shard(self.model, init_device_mesh(self.device.type, (WORLD_SIZE,)), recipe)
        self.optimizer = make_optimizer(self.model, recipe)
        if self.resumed:
            load(self.resumed, self.model, self.optimizer)
        keep, background = recipe.keep_checkpoints, recipe.async_checkpoint
        self.checkpoints = Checkpoints(self.folder, self.step, keep=keep, background=background)
        self.sources = metrics.SourceLosses(self.data.source_names, self.device)
        self.spikes = metrics.SpikeDetector()
        self.record = self._open_record() if RANK == 0 else None

    def _open_data(self) -> SequenceStream:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said once, by rank 0, on the screen
            data = stream(
                self.lake, self.args.table, dp_rank=RANK, dp_world_size=WORLD_SIZE,
                global_batch_size=self.recipe.global_batch_size, pin_memory=self.device.type == "cuda",
                version=read_version(self.args.version),
            )  # fmt: skip
        if not len(data):
            what = f"{data.num_sequences} sequences do not fill a batch of {self.recipe.global_batch_size}"
            raise UsageError(f"{data.table.ref}: {what}", hint="pack more text, or choose a smaller batch")
        if self.resumed is None:
            return data
        state = read_state(self.resumed)
        try:
            data.load_state_dict(state["loader"])
        except DataMismatch as error:
            began = f"--table {state['loader']['table']} --version {state['version']}"
            hint = f"resume with what the run began with, {began}, or start a new run"
            raise DataMismatch(error.message, hint=hint) from error
        new_stage = data.state_dict()["digest"] != state["loader"]["digest"]
        check_recipe(state["config"], self.recipe, new_stage=new_stage)
        if not new_stage:  # the numbers of sequences are those of one order
            self.skip = [*map(tuple, state.get("skip", [])), *self.skip]
        self.step, self.init = state["step"], state.get("init", {})
        return data

    def _open_record(self) -> RunRecord:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        return RunRecord(
            self.lake, self.folder, self.data, recipe=self.args.recipe,
            config=self.recipe.to_json() | self.init, world_size=WORLD_SIZE,
            start_step=self.step, last_step=self.last_step, resumed_from=self.resumed,
            about=f"{millions:,.1f} M parameters on {WORLD_SIZE} x {self.device.type}",
            tensorboard=self.args.tensorboard, quiet=self.args.quiet,
        )  # fmt: skip

    def train(self) -> None:
        """Run to ``last_step``, with a checkpoint on the way every so often and at the end.

        SIGTERM and SIGINT end it after the step that is under way, with a checkpoint.
        """
        if self.step >= self.last_step:
            if self.record:
                self.record.say(f"nothing to do: at step {self.step}, to stop at {self.last_step}")
            return
        for kind in (signal.SIGTERM, signal.SIGINT):
            signal.signal(kind, lambda kind, _: setattr(self, "signal", kind))
        every = self.args.evaluate_every
        waited, began, begins = 0.0, time.perf_counter(), True
        for batch in self.data:
            self.step += 1
            facts, sources = self._skipped(batch) if self._is_skipped(batch) else self._step(batch)
            speed = facts["tokens"] / (time.perf_counter() - began)
            facts["tokens_per_second"] = speed
            facts["mfu"] = metrics.mfu(speed, self.flops, self.peak, WORLD_SIZE)
            facts["data_wait_seconds"] = self.data.wait_seconds - waited
            waited = self.data.wait_seconds
            if self.record:
                self.record.step(facts, sources)
                if not self.checkpoints.failed:  # else every rank stops at the next step
                    self._note_saved(self.checkpoints.poll())
                self.record.log.flush_when_due()
            done = self.step >= self.last_step or self.stopping
            if done or self.step % self.recipe.checkpoint_every == 0:
                self._save()
            if not self.stopping and (done or (every and self.step % every == 0)):
                self._evaluate()
            if done:
                break
            if begins and facts["use"] == "trained":  # a skipped batch compiles nothing
                _set_pg_timeout(timedelta(seconds=self.args.timeout))
                begins = False
            began = time.perf_counter()
        self._end_save()
        if self.record:
            self.record.end(self.step, stopped=self.stopping)
            if self.args.export and not self.stopping:
                from export_hf import export

                export(saved(self.folder)[-1], self.args.export, self.lake)

    def _is_skipped(self, batch: dict[str, Any]) -> bool:
        first, end = batch["first_sequence"], batch["first_sequence"] + batch["count"]
        return any(first <= last and start < end for start, last in self.skip)

    def _skipped(self, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A step without the optimizer: every later one keeps its number, rate and sequences."""
        return {"step": self.step, **_where(batch), "tokens": 0, "use": "skipped"}, {}

    def _step(self, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[int, float | None]]]:
        """One optimizer step over the global batch; the loss is the mean over its targets on all ranks."""
        counts = torch.stack([(batch["labels"][:, 1:] >= 0).sum(), (batch["segment_ids"] >= 0).sum()])
        # On the CPU, so that no kernel is waited for; what the ranks must agree on goes along.
        counts = torch.cat([counts, torch.tensor([self.signal > 0, self.checkpoints.failed])])
        dist.all_reduce(counts)
        targets, tokens, stop, failed = counts.tolist()
        if failed:
            self._end_save()
            raise HeadwaterError("another process could not save its part of the last checkpoint")
        self.stopping = stop > 0
        parts = {k: v.split(self.recipe.micro_batch_size) for k, v in batch.items() if torch.is_tensor(v)}
        num_parts = len(parts["input_ids"])
        found = []
        for i in range(num_parts):
            part = {k: micro[i].to(self.device, non_blocking=True) for k, micro in parts.items()}
            self.model.set_requires_gradient_sync(i == num_parts - 1)
            losses = token_losses(self.model, part)
            # FSDP averages gradients over ranks; the mean over all targets wants their sum.
            (losses.sum() * (WORLD_SIZE / max(targets, 1))).backward()
            self.sources.add(losses, part)
            found.append(losses.detach())
        total = torch.stack([losses.sum(dtype=torch.float64) for losses in found]).sum()
        dist.all_reduce(total)
        sources = self.sources.totals()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        facts = {
            "step": self.step,
            **_where(batch),
            "loss": total.item() / max(targets, 1),
            "grad_norm": norm.full_tensor().item(),  # a DTensor: every rank has to ask
            "learning_rate": learning_rate(self.recipe, self.step),
            "tokens": tokens,
            "use": "trained",
        }
        if not (math.isfinite(facts["loss"]) and math.isfinite(facts["grad_norm"])):
            self._refuse(facts, batch, torch.cat(found))
        for group in self.optimizer.param_groups:
            group["lr"] = facts["learning_rate"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.spikes(facts["loss"]):
            documents = self._documents(batch, torch.cat(found))
            if self.record:
                self.record.spike(facts, self.spikes.expected, documents)
        return facts, sources

    def _documents(self, batch: dict[str, Any], losses: torch.Tensor) -> list[dict[str, Any]]:
        """The step's documents, those that raised its loss most first: on rank 0, but every rank calls it."""
        tensors = {key: batch[key].to(self.device) for key in ("segment_ids", "labels")}
        sums, predicted = metrics.segment_losses(losses, tensors, RANK, batch["count"])
        first = batch["first_sequence"]
        return [] if RANK else metrics.worst_documents(self.data.table, first, sums, predicted)

    def _refuse(self, facts: dict[str, Any], batch: dict[str, Any], losses: torch.Tensor) -> None:
        """Stop before the optimizer takes in a loss or a gradient that is not finite."""
        documents = self._documents(batch, losses)
        self._end_save()
        message, hint = f"step {self.step} is not finite", None
        if self.record:
            message, hint = self.record.refused(facts, documents)
        raise HeadwaterError(message, hint=hint)

    def _save(self) -> None:
        self._end_save()
        state = {"step": self.step, "loader": self.data.state_dict(), "version": self.data.table.version}
        state |= {"config": self.recipe.to_json(), "skip": self.skip, "init": self.init}
        self.checkpoints.save(self.model, self.optimizer, state)

    def _end_save(self) -> None:
        """Wait for the save that is under way; raises why it failed."""
        self._note_saved(self.checkpoints.wait())

    def _note_saved(self, done: tuple[Path, dict[str, Any]] | None) -> None:
        if self.record and done:
            self.record.saved(*done)

    def _evaluate(self) -> None:
        """Bits per byte on the tables of ``--evaluate``, and ``--samples``. Every rank takes part."""
        args, recipe, texts = self.args, self.recipe, []
        own = self.data.tokenizer_id
        few = args.evaluate_sequences
        found = evaluate(self.model, self.lake, args.evaluate, recipe, self.device, few, tokenizer_id=own)
        if args.samples:
            prompts = [recipe.prompts[i % len(recipe.prompts)] for i in range(args.samples)]
            encoder = tokenizer.load(self.lake, own)
            texts = generate_samples(self.model, encoder, prompts, seed=self.step, control=recipe.control)
        if self.record:
            self.record.evaluated(self.step, found, texts)


def _where(batch: dict[str, Any]) -> dict[str, int]:
    return {key: batch[key] for key in ("first_sequence", "count")}


def _tell(error: Exception) -> None:
    """One readable error: rank 0's at once, another's only if rank 0 has not ended the run by then."""
    if isinstance(error, HeadwaterError):
        message = f"{type(error).__name__}: {error}"
    elif isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in LOST):
        what = "another process of this run ended or hangs, so this one stops too"
        hint = "Hint: go on from the last checkpoint with --resume"
        message = f"{what}: {str(error).splitlines()[0]}\n\n{hint}"
    else:
        message = "".join(traceback.format_exception(error))
    if RANK:
        time.sleep(GRACE_SECONDS)
    print(f"[rank {RANK}] {message}" if RANK else message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # At once: a save's thread may wait for a process that is gone, and gloo's threads now and then abort a
    # process that takes its interpreter down, when everything is written ("terminate called without …").
    os._exit(code)
