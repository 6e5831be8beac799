"""Tables of prompts: every combination once, in an order that a seed decides."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import xxhash

from headwater.errors import BadInput
from headwater.lake import Provenance

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PROMPTS = pa.schema(
    {
        "prompt_id": pa.string(),
        "recipe": pa.string(),
        "prompt": pa.large_string(),
        "system": pa.string(),
        "parent_ids": pa.list_(pa.binary(16)),
        "generation": pa.int32(),
        "metadata": pa.string(),
    }
)
"""Columns of a table of prompts; ``generation`` is the highest of the parents'."""


def prompt_row(
    recipe: str,
    prompt: str,
    *,
    system: str | None = None,
    parents: Sequence[bytes] = (),
    generation: int = 0,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One row; its id is made of what is asked, so that the same prompt has the same id everywhere."""
    said = json.dumps([recipe, system, prompt, [parent.hex() for parent in parents]], ensure_ascii=False)
    return {
        "prompt_id": f"{recipe}-{xxhash.xxh3_64_hexdigest(said.encode())}",
        "recipe": recipe,
        "prompt": prompt,
        "system": system,
        "parent_ids": list(parents),
        "generation": generation,
        "metadata": json.dumps(dict(metadata or {}), sort_keys=True, ensure_ascii=False),
    }


def write_prompts(
    lake: Lake, name: str, rows: Iterable[Mapping[str, Any]], *, inputs: Sequence[Table] = ()
) -> Table:
    """The rows as table ``name``, each prompt once; a table that holds just these is left as it is."""
    unique = {row["prompt_id"]: dict(row) for row in rows}
    if not unique:
        raise BadInput(f"no prompts for {name}", hint="the lists that they are made of must not be empty")
    made = pa.Table.from_pylist(list(unique.values()), PROMPTS)
    refs = tuple(table.ref for table in inputs)
    if lake.exists(name):
        current = lake.table(name)
        if current.provenance.inputs == refs and current.to_arrow().sort_by("prompt_id").equals(
            made.sort_by("prompt_id")
        ):
            return current
    lake.write(name, made, provenance=Provenance(kind="prompts", inputs=refs))
    return lake.table(name)


def combinations(parts: Mapping[str, Sequence[Any]], limit: int, seed: int) -> list[dict[str, Any]]:
    """``limit`` of all combinations of one value of each part, as a seeded hash orders them.

    More combinations than a few million are drawn, not listed: each number of a seeded walk stands for one.
    """
    for name, values in parts.items():
        if not values:
            raise BadInput(f"there is no {name} to make prompts of", hint="give at least one")
    sizes = [len(values) for values in parts.values()]
    total = math.prod(sizes)
    numbers = range(total) if total <= 1 << 20 else _drawn(total, limit, seed)
    ordered = sorted(numbers, key=lambda n: (_hash(n, seed), n))
    return [_combination(parts, n) for n in itertools.islice(ordered, limit)]


def _hash(number: int, seed: int) -> int:
    return int(xxhash.xxh3_64_intdigest(number.to_bytes(16, "little"), seed=seed))


def _drawn(total: int, limit: int, seed: int) -> set[int]:
    found: set[int] = set()
    for i in itertools.count():
        if len(found) >= min(limit, total):
            return found
        found.add(_hash(i, seed + 1) % total)
    raise AssertionError("unreachable")


def _combination(parts: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    found = {}
    for name, values in parts.items():
        number, at = divmod(number, len(values))
        found[name] = values[at]
    return found
