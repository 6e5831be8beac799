"""The prompts of a table, with the text of their seeds in place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from headwater.errors import BadInput, UnknownName
from headwater.lake.table import in_list
from headwater.synthesis.generate.generator import Generator, Prompt, canonical_json
from headwater.synthesis.generate.seeds import fill, seeds_in

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

BATCH_ROWS = 1_024
SEEDS_AT_ONCE = 256
MOST_ID_CHARS = 1_024
"""What the lake takes as the prompt_id of a document."""

REQUIRED = ("prompt_id", "prompt")
OPTIONAL = ("recipe", "system", "parent_ids", "generation", "metadata", "parameters")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One row of a prompts table, ready to be sent."""

    prompt: Prompt
    recipe: str
    parent_ids: tuple[bytes, ...] = ()
    generation: int = 0
    """The highest of the parents': 0 for real documents, and for none."""
    metadata: dict[str, Any] = field(default_factory=dict)


def completion_id(prompt: Prompt, generator: Generator) -> bytes:
    """The cache's key, 16 bytes: of (prompt digest, generator, version, parameters)."""
    key = [prompt.digest, generator.name, generator.version, generator.settings(prompt)]
    return xxhash.xxh3_128_digest(canonical_json(key).encode("utf-8", "surrogatepass"))


class PromptTable:
    """Reads prompts in the table's order, a bounded number at a time.

    Parameters
    ----------
    seeds: the table that holds the text of ``parent_ids``; needed where a template says ``[[seed]]``.
    raw: send texts to be continued instead of conversations; a ``system`` text comes before the prompt.

    Raises
    ------
    UnknownName, BadInput
        The table, or a column of it, is missing or of the wrong type; a prompt_id stands twice.
    """

    def __init__(self, lake: Lake, name: str, *, seeds: str = "raw.documents", raw: bool = False) -> None:
        self.table = lake.table(name)
        self._raw = raw
        missing = [column for column in REQUIRED if column not in self.table.schema.names]
        if missing:
            raise BadInput(
                f"{self.table.ref} is no table of prompts: it has no {' and no '.join(missing)}",
                hint=f"columns: {', '.join(REQUIRED)}; and as you need them {', '.join(OPTIONAL)}",
            )
        self._columns = [c for c in (*REQUIRED, *OPTIONAL) if c in self.table.schema.names]
        self._check_ids()
        self._lake = lake
        self._seeds_name = seeds
        self._seeds: Table | None = None
        self.unfilled: list[str] = []
        """Ids of prompts whose seeds are gone, or hold no text; they are not sent."""

    @property
    def seeds(self) -> Table | None:
        """The table of seeds, once a prompt has asked for one."""
        return self._seeds

    def requests(self, limit: int | None = None) -> Iterator[Request]:
        """Every prompt that can be sent, at most ``limit``."""
        self.unfilled.clear()
        left = limit
        for batch in self.table.scan(self._columns, batch_rows=BATCH_ROWS):
            rows = batch.to_pylist()[:left]
            if left is not None:
                left -= len(rows)
            parsed = [self._parsed(row) for row in rows]
            wanted = [row["parent_ids"][n - 1] for row in parsed for n in row["seeds"]]
            texts = self._texts(list(dict.fromkeys(wanted)))
            for row in parsed:
                request = self._request(row, texts)
                if request is not None:
                    yield request
            if left == 0:
                return

    def _request(self, row: dict[str, Any], texts: dict[bytes, str]) -> Request | None:
        seeds = [texts.get(parent, "") for parent in row["parent_ids"]]
        if any(not seeds[n - 1].strip() for n in row["seeds"]):
            self.unfilled.append(row["prompt_id"])
            return None
        text = fill(row["prompt"], seeds, key=row["prompt_id"])
        system, parameters = row.get("system"), row["parameters"]
        if self._raw:
            whole = f"{system}\n\n{text}" if system else text
            prompt = Prompt.raw(row["prompt_id"], whole, **parameters)
        else:
            prompt = Prompt.chat(row["prompt_id"], text, system, **parameters)
        return Request(
            prompt=prompt,
            recipe=row.get("recipe") or self.table.short_name,
            parent_ids=row["parent_ids"],
            generation=row.get("generation") or 0,
            metadata=row["metadata"],
        )

    def _parsed(self, row: dict[str, Any]) -> dict[str, Any]:
        place = f"prompt {row['prompt_id']!r} of {self.table.ref}"
        if not row["prompt_id"] or not isinstance(row["prompt"], str) or not row["prompt"].strip():
            raise BadInput(f"{place} has no id or no text")
        if not row["prompt_id"].isprintable() or len(row["prompt_id"]) > MOST_ID_CHARS:
            raise BadInput(f"{place[:200]} has an id that is no line of at most {MOST_ID_CHARS:,} characters")
        parents = tuple(_id(each, place) for each in row.get("parent_ids") or ())
        try:
            seeds = seeds_in(row["prompt"])
        except BadInput as error:
            raise BadInput(f"{place}: {error.message}") from error
        if seeds and (min(seeds) < 1 or max(seeds) > len(parents)):
            raise BadInput(f"{place} asks for seed {max(seeds)}, and has {len(parents)} parent_ids")
        generation = row.get("generation") or 0
        if generation < 0:
            raise BadInput(f"{place} has generation {generation}, expected the highest of its parents'")
        return {
            **row,
            "parent_ids": parents,
            "seeds": seeds,
            "metadata": _object(row.get("metadata"), "metadata", place),
            "parameters": _object(row.get("parameters"), "parameters", place),
        }

    def _texts(self, ids: Sequence[bytes]) -> dict[bytes, str]:
        """Texts of the ids that are there; a document may have been taken down since the prompt was made."""
        found: dict[bytes, str] = {}
        if not ids:
            return found
        if self._seeds is None:
            self._seeds = self._lake.table(self._seeds_name)
            if not self._seeds.has_text:
                raise BadInput(
                    f"{self._seeds.ref} holds no text", hint="name the table of the seeds: --seeds"
                )
        for start in range(0, len(ids), SEEDS_AT_ONCE):
            part = pa.array(ids[start : start + SEEDS_AT_ONCE], pa.binary(16))
            there = self._seeds.dataset.scanner(columns=["doc_id"], filter=in_list("doc_id", part)).to_table()
            if there.num_rows:
                for batch in self._seeds.with_text(there["doc_id"].cast(pa.binary(16))):
                    columns = batch.column("doc_id").to_pylist(), batch.column("text").to_pylist()
                    found.update((i, t) for i, t in zip(*columns, strict=True) if t is not None)
        return found

    def _check_ids(self) -> None:
        ids = self.table.to_arrow(["prompt_id"])["prompt_id"]
        if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
            raise BadInput(f"{self.table.ref} has a prompt_id of type {ids.type}, expected text")
        counted = pc.value_counts(ids)
        twice = counted.filter(pc.greater(counted.field("counts"), 1))
        if len(twice):
            first = twice[0].as_py()
            raise BadInput(
                f"{self.table.ref} has prompt_id {first['values']!r} {first['counts']} times",
                hint="headwater.prompt_id makes it of the prompt's content; select distinct rows",
            )


def _id(value: Any, place: str) -> bytes:
    """16 bytes; DuckDB may have handed over a UUID as text."""
    if isinstance(value, bytes) and len(value) == 16:
        return value
    if isinstance(value, str):
        import uuid

        try:
            return uuid.UUID(value).bytes
        except ValueError:
            pass
    raise BadInput(
        f"{place} has a parent that is no document's id", hint="parent_ids is a list of doc_id::blob"
    )


def _object(value: Any, name: str, place: str) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    try:
        found = json.loads(value) if isinstance(value, str | bytes) else value
    except ValueError as error:
        raise BadInput(f"{place}: {name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{place}: {name} is a JSON {type(found).__name__}, expected an object")
    return found


__all__ = ["PromptTable", "Request", "UnknownName", "completion_id"]
