"""Rows for generated texts, with all that the lake asks of them (DESIGN 4, decision 0012)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from headwater.errors import BadInput, MissingProvenance
from headwater.ingest.rows import CANDIDATES, DOCUMENTS, documents_of
from headwater.lake.synthetic import (
    EXPECTED,
    REQUIRED,
    SYNTHETIC,
    SYNTHETIC_FIELDS,
    provenance_flaws,
    shown,
)

SYNTHETIC_DOCUMENTS = pa.schema([*DOCUMENTS, *SYNTHETIC_FIELDS])
"""Columns of a table of generated documents: those of ``raw.documents`` and their provenance."""


def synthetic_rows(
    texts: Sequence[str] | pa.Array,
    *,
    source: str | Sequence[str],
    generator: str | Sequence[str],
    generator_version: str | Sequence[str],
    prompt_ids: Sequence[str] | pa.Array,
    parent_ids: Sequence[Sequence[bytes]] | pa.Array | None = None,
    generations: int | Sequence[int] | pa.Array = 1,
    parameters: str | Sequence[str] = "{}",
    license_declared: str | Sequence[str | None] | None = None,
    paths: Sequence[str] | None = None,
    verifier: str | Sequence[str | None] | None = None,
    rewards: float | Sequence[float | None] | None = None,
    metadata: str | Sequence[str | None] | None = None,
) -> pa.Table:
    """Rows of schema :data:`SYNTHETIC_DOCUMENTS`, ready for ``lake.write``.

    One value stands for all rows. ``doc_id`` is made of the source, the path (the prompt's id without one)
    and the text, as ingest makes it: the same answer to the same prompt has the same id everywhere, so a
    caller that asked a prompt several times keeps one of equal answers.

    Parameters
    ----------
    parent_ids:
        For each row the 16-byte ids of the documents its prompt was made from; none without it.
    generations:
        1 plus the highest generation of the parents; 1 for children of real documents.
    parameters:
        A JSON object: temperature, seed and whatever else the generator was given.

    Raises
    ------
    BadInput
        Sequences that are not as long as ``texts``.
    MissingProvenance
        A row that the lake would refuse; the message names it.
    """
    size = len(texts)

    def column(name: str, value: Any, kind: pa.DataType) -> pa.Array:
        if isinstance(value, pa.ChunkedArray):
            value = value.combine_chunks()
        if isinstance(value, (str, int, float)) or value is None:
            return pa.nulls(size, kind) if value is None else pa.repeat(pa.scalar(value, kind), size)
        if len(value) != size:
            raise BadInput(f"got {len(value):,} {name} for {size:,} texts", hint="one for each text")
        try:
            return value.cast(kind) if isinstance(value, pa.Array) else pa.array(list(value), kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise BadInput(f"{name} are not of type {kind}: {str(error).splitlines()[0]}") from error

    prompts = column("prompt_ids", prompt_ids, pa.string())
    parents = [()] * size if parent_ids is None else parent_ids
    path = prompts if paths is None else column("paths", paths, pa.string())
    given = {
        "text": column("texts", texts, pa.large_string()),
        "key": path,
        "source": column("source", source, pa.string()),
        "path": path,
        "origin": pa.repeat(SYNTHETIC, size),
        "license_declared": column("license_declared", license_declared, pa.string()),
        "metadata": column("metadata", metadata, pa.string()),
    }
    candidates = [given.get(field.name, pa.nulls(size, field.type)) for field in CANDIDATES]
    documents = documents_of(pa.record_batch(candidates, schema=CANDIDATES))
    added = {
        "generator": column("generator", generator, pa.string()),
        "generator_version": column("generator_version", generator_version, pa.string()),
        "prompt_id": prompts,
        "parent_ids": column("parent_ids", parents, SYNTHETIC_FIELDS.field("parent_ids").type),
        "generation": column("generations", generations, pa.int32()),
        "parameters": column("parameters", parameters, pa.string()),
        "verifier": column("verifier", verifier, pa.string()),
        "reward": column("rewards", rewards, pa.float64()),
    }
    rows = pa.record_batch(
        [*documents.columns, *(added[name] for name in SYNTHETIC_FIELDS.names)], schema=SYNTHETIC_DOCUMENTS
    )
    if flaws := provenance_flaws(rows):
        name, wrong = next(iter(flaws.items()))
        first = wrong.index(True).as_py()
        raise MissingProvenance(
            f"text {first}: {name} is {shown(rows[name][first].as_py())}, expected {EXPECTED[name]}",
            hint=f"a synthetic row needs {', '.join(REQUIRED)}",
        )
    return pa.Table.from_batches([rows])


def next_generation(generations: Mapping[bytes, int], parents: Sequence[bytes]) -> int:
    """The generation of a child: 1 plus the highest of its parents'; a parent that is not listed is real."""
    return 1 + max((generations.get(parent, 0) for parent in parents), default=0)


__all__ = ["SYNTHETIC_DOCUMENTS", "SYNTHETIC_FIELDS", "next_generation", "synthetic_rows"]
