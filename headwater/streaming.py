"""From a ``sequences`` table to torch: one position, any number of ranks, no worker processes.

Step *s* takes the sequences ``[position, position + global_batch_size)`` and each data-parallel rank its
slice of them, by arithmetic. So the state is one integer with the digest of the table it counts in, and
another number of ranks reads on as if nothing had changed. Tensor-, context- and pipeline-parallel ranks of
one replica call with the same ``dp_rank`` and get the same batches. Threads read ahead: Lance does its work
in Rust without the GIL, and a forked worker would crash with an open dataset.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwater.errors import MissingExtra, UsageError
from headwater.kernels.sequence_batch import IGNORE
from headwater.loading.cache import BlockCache
from headwater.loading.position import STATE_FORMAT, resume_at, state_of
from headwater.loading.read_ahead import ReadAhead
from headwater.loading.retry import PatientReader, Retry
from headwater.loading.rows import Reader, open_rows
from headwater.loading.schedule import BatchSizes, Run, Schedule
from headwater.sequences.source import PROD, bypass_of

try:
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise MissingExtra.of("torch", "train") from error

from headwater.loading.device import to_device
from headwater.loading.layout import FIELDS, Batch, Layout

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

__all__ = ["FIELDS", "IGNORE", "STATE_FORMAT", "SequenceStream", "stream", "to_device"]

CHUNK_TOKENS = 1 << 20
"""Tokens read at once, 25 MB of tensors: 512 sequences of 2,048 are read twice as fast as 128."""
MAX_CHUNK_STEPS = 1024


def stream(
    lake: Lake,
    table: str = "sequences",
    *,
    dp_rank: int = 0,
    dp_world_size: int = 1,
    global_batch_size: BatchSizes = 8,
    version: int | str | None = None,
    state: Mapping[str, Any] | None = None,
    fields: Sequence[str] = FIELDS,
    pin_memory: bool = False,
    cache: tuple[str | Path, int] | None = None,
) -> SequenceStream:
    """A torch ``IterableDataset`` over one version of a packed table, from where ``state`` left off.

    Parameters
    ----------
    dp_rank, dp_world_size:
        This process's place among the data-parallel ranks. Ranks that share a replica (tensor, context,
        pipeline) pass the same ``dp_rank``.
    global_batch_size:
        Sequences in a step over all ranks; divisible by ``dp_world_size``. Training with another number
        of ranks sees the same steps as long as this stays. A ramp-up is a list ``[(from_sequence, size),
        …]`` that begins at sequence 0: a step takes the size that holds where it begins.
    version:
        A number, a tag, or ``"approved"``. Without it: the approved version in ``prod``, the latest one
        elsewhere. Outside ``prod``, an unapproved version warns, and ``bypass`` says so for the record.
    state:
        What :meth:`SequenceStream.state_dict` gave, from any number of ranks.
    fields:
        Which tensors a batch holds; those left out cost nothing.
    pin_memory:
        Put batches into page-locked memory, for asynchronous copies (see :func:`to_device`). Without
        CUDA it does nothing.
    cache:
        ``(folder, max_bytes)`` on a local disk, for a lake in an object store: the ranks of a node fetch
        each block of sequences once and share it.

    Raises
    ------
    NotApproved
        Unapproved data in ``prod``, or ``"approved"`` without an approval.
    DataMismatch
        ``state`` counts in another table, tokenizer, sequence length or stage.
    LakeError
        The lake cannot be read; an object store that fails is asked again for a minute before that.
    """
    wanted = "approved" if version is None and lake.schema == PROD else version
    retry = Retry(remote="://" in lake.uri and not lake.uri.startswith("file://"))
    found, bypass = retry(f"table {table}", lambda: _open(lake, table, wanted))
    if bypass is not None:
        warnings.warn(f"training on unapproved data: {bypass}", stacklevel=2)
    dataset = SequenceStream(
        lake,
        found,
        dp_rank,
        dp_world_size,
        global_batch_size,
        bypass,
        fields=fields,
        pin_memory=pin_memory,
        cache=cache,
        retry=retry,
    )
    if state is not None:
        dataset.load_state_dict(state)
    return dataset


def _open(lake: Lake, name: str, version: int | str | None) -> tuple[Table, str | None]:
    table = lake.table(name, version=version)
    return table, bypass_of(lake, table)


class SequenceStream(IterableDataset[Batch]):  # type: ignore[misc]  # torch is untyped here
    """Batches of this rank, from ``next_sequence`` to the last full global batch. Made by :func:`stream`.

    Each batch is a dict, ``B = global_batch_size / dp_world_size`` rows, ``L`` tokens:

    - ``input_ids`` (B, L) int64
    - ``labels`` (B, L) int64: the ids, and -100 at padding and at the first token of each document, which
      no token of its own document predicts (labels are not shifted)
    - ``segment_ids`` (B, L) int32: which document of its sequence a token belongs to, -1 at padding
    - ``position_ids`` (B, L) int32: from 0 in each segment
    - ``segment_sources`` (B, S) int32: index into ``source_names`` of each segment, -1 behind the last one
      (and everywhere in a table that does not name its sources); S differs between batches
    - ``first_sequence``, ``count``: the step's sequences over all ranks, for the log

    A batch stays valid as long as it is held. Its memory, and that of its neighbours in a chunk, is used
    again when it is not: clone what is kept for long.

    The last global batch that is not full is dropped, so every rank makes the same number of steps;
    ``num_dropped`` says how many sequences that leaves out.

    Attributes
    ----------
    wait_seconds:
        Time that the caller spent waiting for data, over all iterations.
    num_retries:
        Reads of an object store that were repeated.
    """

    def __init__(
        self,
        lake: Lake,
        table: Table,
        dp_rank: int,
        dp_world_size: int,
        global_batch_size: BatchSizes,
        bypass: str | None,
        *,
        fields: Sequence[str] = FIELDS,
        pin_memory: bool = False,
        cache: tuple[str | Path, int] | None = None,
        retry: Retry | None = None,
    ) -> None:
        if not 0 <= dp_rank < dp_world_size:
            raise UsageError(f"got dp_rank {dp_rank} of {dp_world_size}", hint="ranks count from 0")
        facts = table.provenance.extra
        if "sequence_length" not in facts or "tokenizer_id" not in facts:
            raise UsageError(f"{table.ref} was not made by pack", hint="headwater pack TABLE")
        self.table = table
        self.bypass = bypass
        self.tokenizer_id: str = facts["tokenizer_id"]
        self.sequence_length: int = int(facts["sequence_length"])
        self.vocab_size: int = int(facts["vocab_size"])
        self.source_names: list[str] = sorted(facts.get("sources") or ())
        self.num_sequences = table.num_rows
        self.next_sequence = 0
        self.num_seeks = 0
        self.wait_seconds = 0.0
        self._lake = lake
        self._schedule = Schedule(global_batch_size, dp_world_size)
        self._rank, self._ranks = dp_rank, dp_world_size
        self._layout = Layout(fields, self.sequence_length, pin_memory=pin_memory)
        self._retry = retry or Retry(remote=False)
        self._read: Reader = PatientReader(
            open_rows(lake, table, self.source_names), str(table.ref), self._retry
        )
        if cache is not None:
            self._read = BlockCache(self._read, table, self.source_names, *cache)

    def __len__(self) -> int:
        """Steps left."""
        return self._schedule.steps(self.next_sequence, self.num_sequences)

    @property
    def num_dropped(self) -> int:
        """Sequences at the end that do not fill a global batch."""
        return self.num_sequences - self._schedule.end(self.next_sequence, self.num_sequences)

    @property
    def num_retries(self) -> int:
        """Reads of an object store that were repeated."""
        return self._retry.num_retries

    def batch_size_at(self, sequence: int) -> int:
        """Sequences, over all ranks, of the step that begins at ``sequence``."""
        return self._schedule.size_at(sequence)

    def seek(self, sequence: int) -> None:
        """Go on at ``sequence``: the next batch begins there, in an iteration under way too.

        For batches to skip or to repeat. Raises ``UsageError`` outside the table.
        """
        if not 0 <= sequence <= self.num_sequences:
            raise UsageError(f"got sequence {sequence}", hint=f"{self.table.ref} has {self.num_sequences}")
        self.next_sequence = sequence
        self.num_seeks += 1

    def state_dict(self) -> dict[str, Any]:
        """Where to go on: counts the batches that were handed out, not those read ahead."""
        return state_of(self.table, self.next_sequence)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` stopped, or begin the stage that was packed to continue from it.

        Raises ``DataMismatch`` when it was taken over other data.
        """
        self.seek(resume_at(self._lake, self.table, state))

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise UsageError(
                "a stream reads ahead by itself and cannot run in DataLoader workers",
                hint="iterate it directly, or DataLoader(stream, batch_size=None, num_workers=0)",
            )
        seeks = -1
        while seeks != self.num_seeks:  # a seek begins anew at its place
            seeks = self.num_seeks
            for batch in self._batches(self.next_sequence):
                self.next_sequence = batch["first_sequence"] + batch["count"]
                yield batch
                if seeks != self.num_seeks:
                    break

    def _batches(self, first: int) -> Iterator[Batch]:
        self._retry.stop.clear()
        jobs = (partial(self._load, run) for run in self._chunks(first))
        with ReadAhead(jobs, self._retry.stop) as chunks:
            while True:
                start = time.perf_counter()
                chunk = chunks.next()
                self.wait_seconds += time.perf_counter() - start
                if chunk is None:
                    return
                yield from chunk

    def _load(self, run: Run) -> list[Batch]:
        share = run.size // self._ranks
        firsts = run.first + np.arange(run.steps) * run.size
        rows = (firsts[:, None] + self._rank * share + np.arange(share)).ravel()
        return self._layout.batches(run, self._read(rows))

    def _chunks(self, first: int) -> Iterator[Run]:
        """Steps in groups; the first groups are small, so that the first batch comes at once."""
        steps = 1
        for run in self._schedule.runs(first, self.num_sequences):
            tokens = run.size // self._ranks * self.sequence_length
            most = min(max(CHUNK_TOKENS // tokens, 1), MAX_CHUNK_STEPS)
            done = 0
            while done < run.steps:
                steps = min(steps, most, run.steps - done)
                yield Run(run.first + done * run.size, run.size, steps)
                done += steps
                steps *= 4
