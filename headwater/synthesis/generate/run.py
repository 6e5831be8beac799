"""A table of prompts through a generator into a table of documents, resumable to the single prompt."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.lake import new_build_id
from headwater.lake.names import RAW_SCHEMA, qualified
from headwater.synthesis.generate.budget import Prices
from headwater.synthesis.generate.completions import (
    FLUSH_ROWS,
    FLUSH_SECONDS,
    LAST_WAIT_SECONDS,
    Cache,
    Journal,
    compact,
    completion_row,
)
from headwater.synthesis.generate.documents import Added, Wanted, add_documents
from headwater.synthesis.generate.prompts import PromptTable, Request, completion_id

if TYPE_CHECKING:
    from headwater.lake import Lake
    from headwater.synthesis.generate.generator import Completion, Generator, Prompt

DOCUMENTS = "raw.generated_documents"


@dataclass(kw_only=True)
class GenerateReport:
    """What a run did. Every prompt is counted in exactly one of cached, failed_before, unfilled, answered,
    failed and not_sent."""

    prompts_table: str
    generator: str
    generator_version: str
    prompts: int = 0
    cached: int = 0
    """Answered in an earlier run, or asked by another prompt of this one."""
    failed_before: int = 0
    """Failed for good in an earlier run, and not asked again."""
    unfilled: int = 0
    """Not sent because a seed is gone or empty."""
    answered: int = 0
    failed: int = 0
    retryable: int = 0
    """Of the failed ones, those that the next run asks again."""
    not_sent: int = 0
    recovered: int = 0
    """Answers that a killed run had left in its file."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    stopped: str | None = None
    """Why the run ended before its last prompt."""
    errors: dict[str, int] = field(default_factory=dict)
    pending: str | None = None
    """Why answers are still in the file and not in the lake."""
    documents: Added | None = None

    @property
    def is_complete(self) -> bool:
        return self.stopped is None and self.pending is None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "is_complete": self.is_complete}


def generate(
    lake: Lake,
    prompts: str,
    generator: Generator,
    *,
    to: str | None = DOCUMENTS,
    folder: Path | str = "runs/generate",
    seeds: str = "raw.documents",
    raw: bool = False,
    limit: int | None = None,
    prices: Prices | None = None,
    again: bool = False,
    license_declared: str | None = None,
    flush_rows: int = FLUSH_ROWS,
    flush_seconds: float = FLUSH_SECONDS,
    wait_seconds: float = LAST_WAIT_SECONDS,
    progress: Callable[[GenerateReport], None] | None = None,
) -> GenerateReport:
    """Complete every prompt that the lake has no answer to, and add the answers to a table of documents.

    Run it again after anything: a kill, an endpoint that died, a spent budget, new prompts. What is answered
    is not asked again; what failed in a way that may pass is.

    Parameters
    ----------
    prompts: the table of prompts, as ``PromptTable`` reads it.
    to: the table of documents; bare names live in ``raw``. ``None`` leaves it at the completions.
    folder: where answers wait until the lake takes them, each table of prompts in a folder of its own.
    again: also ask the prompts whose failure was final.

    Raises
    ------
    UnknownName, BadInput, UsageError
        No such table, a malformed prompt, or another process works on the same prompts.
    """
    table = PromptTable(lake, prompts, seeds=seeds, raw=raw)
    name = table.table.name
    report = GenerateReport(
        prompts_table=str(table.table.ref),
        generator=generator.name,
        generator_version=generator.version,
        cost=0.0 if prices is not None else None,
    )
    began = time.monotonic()
    journal = Journal(lake, Path(folder) / name, flush_rows=flush_rows, flush_seconds=flush_seconds)
    journal.inputs = (table.table.ref,)
    report.recovered = journal.num_recovered
    run = _Run(table, generator, report, journal, prices, again)
    done = False
    try:
        journal.flush(wait_seconds=wait_seconds)
        run.complete(Cache.of(lake), limit, progress)
        done = True
    finally:
        # Whatever happened, what was answered goes to the lake; the file keeps what does not get there.
        with contextlib.nullcontext() if done else contextlib.suppress(Exception):
            if not journal.close(wait_seconds=wait_seconds if done else 0.0):
                report.pending = journal.why_pending
    if report.pending is None:
        compact(lake)
    report.stopped = generator.stopped
    report.unfilled = len(table.unfilled)
    report.prompts += report.unfilled
    if to is not None and report.pending is None:
        sources = (table.table,) if table.seeds is None else (table.table, table.seeds)
        report.documents = add_documents(
            lake,
            run.wanted,
            qualified(to, RAW_SCHEMA),
            inputs=sources,
            license_declared=license_declared,
            extra={"generator": generator.name, "generator_version": generator.version, "run_id": run.id},
        )
    report.seconds = time.monotonic() - began
    return report


class _Run:
    """Feeds the generator with what is not answered, and books what comes back."""

    def __init__(
        self,
        table: PromptTable,
        generator: Generator,
        report: GenerateReport,
        journal: Journal,
        prices: Prices | None,
        again: bool,
    ) -> None:
        self.id = new_build_id()
        self.wanted = Wanted()
        self._table = table
        self._generator = generator
        self._report = report
        self._journal = journal
        self._prices = prices
        self._again = again
        self._waiting: dict[str, tuple[bytes, Request]] = {}
        self._seen: set[bytes] = set()
        self._errors: Counter[str] = Counter()

    def complete(
        self, cache: Cache, limit: int | None, progress: Callable[[GenerateReport], None] | None
    ) -> None:
        completions = self._generator.complete(self._new(cache, limit))
        try:
            for completion in completions:
                self._book(completion)
                if progress is not None:
                    progress(self._report)
        finally:
            getattr(completions, "close", lambda: None)()  # requests that are under way end with the run

    def _new(self, cache: Cache, limit: int | None) -> Iterator[Prompt]:
        """Prompts to send, in the table's order; the rest is counted."""
        report, generator = self._report, self._generator
        for request in self._table.requests(limit):
            report.prompts += 1
            key = completion_id(request.prompt, generator)
            if key in self._seen:  # an earlier prompt asks the same: one answer, one document
                report.cached += 1
                continue
            self._seen.add(key)
            self.wanted.add(key, request)
            if cache.has_answer(key):
                report.cached += 1
            elif cache.has_final_error(key) and not self._again:
                report.failed_before += 1
            elif generator.stopped is not None:
                report.not_sent += 1
            else:
                self._waiting[request.prompt.prompt_id] = (key, request)
                yield request.prompt

    def _book(self, completion: Completion) -> None:
        report = self._report
        key, request = self._waiting.pop(completion.prompt_id)
        if not completion.was_sent and completion.retryable:
            report.not_sent += 1
            return
        cost = self._prices.cost(*completion.charged) if self._prices is not None else None
        self._journal.add(
            completion_row(
                key,
                request,
                completion,
                self._generator,
                prompts_table=self._table.table.name,
                run_id=self.id,
                cost=cost,
            )
        )
        report.prompt_tokens += completion.charged[0]
        report.completion_tokens += completion.charged[1]
        if cost is not None:
            report.cost = (report.cost or 0.0) + cost
        if completion.error is None:
            report.answered += 1
            return
        report.failed += 1
        report.retryable += completion.retryable
        self._errors[completion.error] += 1
        report.errors = dict(self._errors.most_common(10))
