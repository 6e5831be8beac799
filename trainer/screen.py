"""What rank 0 prints: a head, about a dozen rows, a line of progress on a terminal, a summary."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from checkpoint import saved

if TYPE_CHECKING:
    from train import Run


class Screen:
    """What rank 0 prints: a head, about a dozen rows, a line of progress on a terminal, a summary."""

    def __init__(self, run: Run, *, quiet: bool) -> None:
        self.run = run
        self.quiet = quiet
        self.first = run.step
        self.losses: list[float] = []
        self.tokens = 0
        self.began = time.perf_counter()
        count = sum(p.numel() for p in run.model.parameters())
        data = run.data
        self.say(
            f"run {run.run_id}: {count / 1e6:,.1f} M parameters on {run.world_size} x {run.device.type}, "
            f"{data.table.ref} ({data.num_sequences:,} sequences of {data.sequence_length})"
        )
        if run.resumed:
            self.say(f"resumed from {run.resumed.name} at sequence {data.next_sequence:,}")
        if data.bypass:
            print(f"warning: {data.bypass}; the run records it", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def step(self, facts: dict[str, Any]) -> None:
        if not self.losses:
            self.say("  step     loss  grad norm  learning rate  tokens/s  data wait")
        self.losses.append(facts["loss"])
        self.tokens += facts["tokens"]
        step, last = facts["step"], self.run.last_step
        row = (
            f"{step:>6}  {facts['loss']:7.4f}  {facts['grad_norm']:9.3f}  {facts['learning_rate']:13.2e}  "
            f"{facts['tokens_per_second']:8,.0f}  {facts['data_wait_seconds']:8.4f}s"
        )
        tty = sys.stdout.isatty() and not self.quiet
        every = max(1, (last - self.first) // 12)
        if (step - self.first) % every == 0 or len(self.losses) == 1 or step == last:
            self.say(("\r" if tty else "") + row)
        elif tty:
            print(f"\r{row}  of {last}", end="", flush=True)

    def end(self, num_pending: int) -> None:
        seconds = time.perf_counter() - self.began
        print(
            f"trained steps {self.first + 1} to {self.run.step}: "
            f"loss {self.losses[0]:.4f} -> {self.losses[-1]:.4f}, "
            f"{self.tokens:,} tokens in {seconds:.1f} s ({self.tokens / seconds:,.0f} tokens/s); "
            f"checkpoint {saved(self.run.folder)[-1]}",
            flush=True,
        )
        if num_pending:
            print(
                f"{num_pending} log rows wait in {self.run.folder / 'pending.jsonl'}: the lake was busy; "
                "the next --resume writes them",
                file=sys.stderr,
            )
