"""Reading the record of a version back from its Lance transaction."""

from __future__ import annotations

import lance

from headwater.errors import LakeError
from headwater.lake.provenance import VersionFacts


def recorded(dataset: lance.LanceDataset, version: int) -> VersionFacts | None:
    try:
        transaction = dataset.read_transaction(version)
    except (OSError, ValueError, TypeError):  # TypeError: see _same_rows
        return None
    return VersionFacts.from_properties(transaction.transaction_properties) if transaction else None


def _same_rows(dataset: lance.LanceDataset, version: int) -> bool:
    """True for an index or a compaction: the version holds the rows of the one below it."""
    try:
        transaction = dataset.read_transaction(version)
    except TypeError:
        # pylance 14.0.2 cannot build a Rewrite that moved an index in Python; nothing else raises this.
        return True
    if transaction is None:
        return False
    operation = transaction.operation
    # A bare BaseOperation is what pylance shows for the ReserveFragments before a Rewrite.
    return type(operation) is lance.LanceOperation.BaseOperation or isinstance(
        operation, lance.LanceOperation.CreateIndex | lance.LanceOperation.Rewrite
    )


def facts_of(dataset: lance.LanceDataset, target: str) -> VersionFacts:
    """The record of a version, or of the one before it when this is an index or a compaction.

    A crash between maintenance and its closing commit leaves such a version on top: its rows are
    those of the version below, so that record still holds.
    """
    version = int(dataset.version)
    while version > 0:
        facts = recorded(dataset, version)
        if facts is not None:
            if version != dataset.version and facts.num_rows != dataset.count_rows():
                break
            return facts
        if not _same_rows(dataset, version):
            break
        version -= 1
    raise LakeError(
        f"{target}@{dataset.version} carries no Headwater record",
        hint="it was written by another program; ingest it instead of copying it into the lake",
    )
