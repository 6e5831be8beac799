"""The validation split: whole duplicate clusters, chosen by a hash that no setting moves.

A document is held out when the hash of its cluster is small enough, so near-copies never stand on both sides,
a larger share keeps all of a smaller one, and every order, stage and ablation over a corpus holds out the
same documents.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headwater.errors import UsageError
from headwater.lineage import upstream

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

HELD_OUT_SEED = 0x68656C64
"""Seed of the hash: "held" in ASCII. The macro `held_out` has the same number."""

CLUSTERS = "duplicate_clusters"


def check_share(share: float) -> None:
    """Raise ``UsageError`` unless ``share`` is at least 0 and below 1."""
    if not 0 <= share < 1:
        raise UsageError(
            f"got hold_out {share}", hint="a share of the duplicate clusters: 0.01 is one percent"
        )


def held_out_sql(cluster: str, share: float) -> str:
    """The condition that the cluster in the SQL expression ``cluster`` is held out."""
    return f"seeded_hash({cluster}, seed := {HELD_OUT_SEED}) < {math.floor(share * 2**64)}::ubigint"


def clusters_of(lake: Lake, table: Table) -> Table | None:
    """The ``duplicate_clusters`` that ``table`` was built from, at that version; ``None`` without one.

    Raises ``UsageError`` when it was built from several that differ: a cluster of one may be two of another.
    """
    own = [table.ref] if table.short_name == CLUSTERS else []
    refs = [ref for ref in [*upstream(lake, table.ref), *own] if ref.name.rpartition(".")[2] == CLUSTERS]
    if len({(ref.name, ref.digest) for ref in refs}) > 1:
        shown = ", ".join(sorted({str(ref) for ref in refs}))
        raise UsageError(
            f"{table.ref} was built from clusters that differ ({shown}), so no split keeps copies together",
            hint="headwater build, so that all of it is made from one version of duplicate_clusters",
        )
    if not refs:
        return None
    return lake.table(refs[0].name, version=refs[0].version)
