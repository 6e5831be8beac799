"""Pretrain on a packed table: ``torchrun --nproc-per-node N trainer/train.py RECIPE``.

Reads ``sequences`` with ``headwater.streaming``, shards with FSDP2, and logs every step to the lake. A
resumed run goes on exactly where its checkpoint stands, on any number of processes.
"""

# ruff: noqa: TID253  (the trainer is about torch)

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
import traceback
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from checkpoint import load, read_state, save, saved
from model import build_model, learning_rate, make_optimizer, shard, summed_loss
from recipe import HOW_IT_RUNS, Recipe, find_recipe
from screen import Screen
from torch.distributed.device_mesh import init_device_mesh

from headwater.errors import DataMismatch, HeadwaterError, UnknownName, UsageError
from headwater.lake import Lake
from headwater.runlog import LAST_WAIT_SECONDS, RUN_FILE, RunLog
from headwater.streaming import SequenceStream, stream

RANK = int(os.environ.get("RANK", "0"))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))
LOCAL_RANK = int(os.environ.get("LOCAL_RANK", "0"))

GRACE_SECONDS = 10.0
"""How long other ranks hold back an error that rank 0 most likely tells too."""


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        recipe = find_recipe(args.recipe)
        _start_processes()
        run = Run(args, recipe)
        run.train()
    except Exception as error:
        known = isinstance(error, HeadwaterError)
        _tell(f"{type(error).__name__}: {error}" if known else traceback.format_exc())
        return error.exit_code if known else 1
    dist.destroy_process_group()
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train.py",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("recipe", help="a function of trainer/recipes, or path/to/file.py:function")
    add("--lake", default="lake", help="path or URI of the lake")
    add("--target", default="dev", help="schema of the lake; prod trains on approved data only")
    add("--table", default="sequences", help="packed table")
    add("--version", help="a number, a tag or 'approved'; without it approved in prod, else the latest")
    add("--out", default=Path("runs"), type=Path, help="folder of runs and their checkpoints")
    add("--max-steps", type=int, help="stop after this step; the schedule stays the recipe's")
    add("--resume", nargs="?", const="", metavar="RUN", help="go on with a run, or the recipe's latest")
    add("--quiet", action="store_true", help="print the summary only")
    return parser.parse_args(argv)


def _start_processes() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(LOCAL_RANK)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group(backend, **alone)  # without torchrun: a plain script, one process


class Run:
    """One attempt at a run: its folder, its data, its model, and where it stands."""

    def __init__(self, args: argparse.Namespace, recipe: Recipe) -> None:
        self.recipe, self.args, self.world_size = recipe, args, WORLD_SIZE
        self.device = torch.device(f"cuda:{LOCAL_RANK}" if torch.cuda.is_available() else "cpu")
        self.lake = Lake(args.lake, schema=args.target)
        self.resumed = _checkpoint_to_resume(args)
        self.run_id = self.resumed.parent.name if self.resumed else _new_run_id(args.recipe)
        self.folder = args.out / self.run_id
        self.step = 0
        self.data = self._open_data()
        self.last_step = min(args.max_steps or recipe.max_steps, self.step + len(self.data))
        self.model = build_model(recipe, self.data.vocab_size, self.data.sequence_length).to(self.device)
        shard(self.model, init_device_mesh(self.device.type, (WORLD_SIZE,)), recipe)
        self.optimizer = make_optimizer(self.model, recipe)
        if self.resumed:
            load(self.resumed, self.model, self.optimizer)
        self.log = self._open_log() if RANK == 0 else None
        self.screen = Screen(self, quiet=args.quiet) if RANK == 0 else None

    def _open_data(self) -> SequenceStream:
        version = self.args.version
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said once, by rank 0, on the screen
            data = stream(
                self.lake,
                self.args.table,
                dp_rank=RANK,
                dp_world_size=WORLD_SIZE,
                global_batch_size=self.recipe.global_batch_size,
                version=int(version) if version and version.isdigit() else version,
            )
        if data.num_sequences < self.recipe.global_batch_size:
            what = f"{data.num_sequences} sequences do not fill a batch of {self.recipe.global_batch_size}"
            raise UsageError(f"{data.table.ref}: {what}", hint="pack more text, or choose a smaller batch")
        if self.resumed is None:
            return data
        state = read_state(self.resumed)
        _check_recipe(state["config"], self.recipe)
        try:
            data.load_state_dict(state["loader"])
        except DataMismatch as error:
            began = f"--table {state['loader']['table']} --version {state['version']}"
            raise DataMismatch(
                error.message, hint=f"resume with what the run began with, {began}, or start a new run"
            ) from error
        self.step = state["step"]
        return data

    def _open_log(self) -> RunLog:
        log = RunLog(self.lake, self.folder, recipe=self.args.recipe)
        log.start(
            self.data.table,
            recipe=self.args.recipe,
            config=json.dumps(self.recipe.to_json(), sort_keys=True),
            bypass=self.data.bypass,
            world_size=WORLD_SIZE,
            start_step=self.step,
            resumed_from=f"{self.run_id}/{self.resumed.name}" if self.resumed else None,
        )
        return log

    def train(self) -> None:
        """Run to ``last_step``, with a checkpoint on the way every so often and at the end."""
        if self.step >= self.last_step:
            if self.screen:
                self.screen.say(f"nothing to do: at step {self.step}, to stop at {self.last_step}")
            return
        waited, began = 0.0, time.perf_counter()
        for batch in self.data:
            facts = self._step(batch)
            now = time.perf_counter()
            facts["tokens_per_second"] = facts["tokens"] / (now - began)
            facts["data_wait_seconds"] = self.data.wait_seconds - waited
            waited, began = self.data.wait_seconds, now
            if self.log and self.screen:
                self.log.add("training_steps", **facts)
                self.screen.step(facts)
            done = self.step >= self.last_step
            if done or self.step % self.recipe.checkpoint_every == 0:
                self._checkpoint()
                began = time.perf_counter()
            elif self.log:
                self.log.flush_when_due()
            if done:
                break
        if self.log and self.screen:
            self.log.flush(wait_seconds=LAST_WAIT_SECONDS)
            self.screen.end(self.log.num_pending)

    def _step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One optimizer step over the global batch; the loss is the mean over its targets on all ranks."""
        self.step += 1
        tensors = {k: v.to(self.device) for k, v in batch.items() if isinstance(v, torch.Tensor)}
        counts = torch.stack([(tensors["labels"][:, 1:] >= 0).sum(), (tensors["segment_ids"] >= 0).sum()])
        dist.all_reduce(counts)
        targets, tokens = counts.tolist()
        total = torch.zeros((), device=self.device)
        parts = {k: t.split(self.recipe.micro_batch_size) for k, t in tensors.items()}
        num_parts = len(parts["input_ids"])
        for i in range(num_parts):
            self.model.set_requires_gradient_sync(i == num_parts - 1)
            loss = summed_loss(self.model, {k: part[i] for k, part in parts.items()})
            # FSDP averages gradients over ranks; the mean over all targets wants their sum.
            (loss * (WORLD_SIZE / max(targets, 1))).backward()
            total += loss.detach()
        dist.all_reduce(total)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        rate = learning_rate(self.recipe, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "step": self.step,
            "first_sequence": batch["first_sequence"],
            "count": batch["count"],
            "loss": total.item() / max(targets, 1),
            "grad_norm": norm.full_tensor().item(),  # a DTensor: every rank has to ask
            "learning_rate": rate,
            "tokens": tokens,
        }

    def _checkpoint(self) -> None:
        loader = self.data.state_dict()
        state = {"step": self.step, "loader": loader, "version": self.data.table.version}
        state["config"] = self.recipe.to_json()
        path = save(self.folder, self.model, self.optimizer, state, self.recipe.keep_checkpoints)
        if self.log:
            where = f"{self.run_id}/{path.name}"
            self.log.add("checkpoints", step=self.step, path=where, next_sequence=loader["next_sequence"])
            self.log.flush()


def _new_run_id(recipe: str) -> str:
    """The same on every rank: rank 0 makes it."""
    name = recipe.rpartition(":")[2]
    made = [f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"]
    dist.broadcast_object_list(made, src=0)
    return made[0]


def _checkpoint_to_resume(args: argparse.Namespace) -> Path | None:
    """The newest checkpoint of the run that ``--resume`` names, or of any run of the recipe."""
    if args.resume is None:
        return None
    runs = {file.parent.name: file for file in args.out.glob(f"*/{RUN_FILE}")}
    if args.resume and args.resume not in runs:
        raise UnknownName.of("run", args.resume, runs, where=str(args.out))
    same = [f for f in runs.values() if json.loads(f.read_text())["recipe"] == args.recipe]
    chosen = [runs[args.resume]] if args.resume else same
    found = [path for file in chosen for path in saved(file.parent)[-1:]]
    if not found:
        which = args.resume or f"any run of {args.recipe} in {args.out}"
        raise UsageError(f"found no checkpoint of {which}", hint="start without --resume")
    return max(found, key=lambda path: path.stat().st_mtime)


def _check_recipe(was: dict[str, Any], recipe: Recipe) -> None:
    now = recipe.to_json()
    differ = [k for k in now if k not in HOW_IT_RUNS and was.get(k) != now[k]]
    if differ:
        sides = "; ".join(f"{k}: checkpoint {was.get(k)!r}, recipe {now[k]!r}" for k in differ)
        raise DataMismatch(f"the recipe changed since the run began: {sides}", hint="start a new run")


def _tell(message: str) -> None:
    """One readable error: rank 0's at once, another's only if rank 0 has not ended the run by then."""
    if RANK:
        time.sleep(GRACE_SECONDS)
    print(f"[rank {RANK}] {message}" if RANK else message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
