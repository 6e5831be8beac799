"""The table of pairs and its index in the lake: made whole, or moved to today's signatures."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from headwater.dedup.bands import THRESHOLD
from headwater.dedup.caps import CAPS, Caps
from headwater.dedup.estimate import Prediction, estimate_near_duplicates, memory_setting
from headwater.dedup.increment import Increment, Unresolved
from headwater.dedup.index import index_name, index_request, index_rows
from headwater.dedup.pairs import pairs_from_signatures
from headwater.dedup.spread import PAIRS
from headwater.operators.minhash import NGRAM

if TYPE_CHECKING:
    from headwater.lake import Lake, Provenance, Table, TableVersion

LOG = logging.getLogger("headwater.dedup")
"""The prediction goes here at level INFO before a full build starts, in one line."""

STORED_RATIO = 3.9
"""Bytes of text for each byte stored, where a table does not say: 10.2 GB in 2.64 GB (docs/benchmarks.md)."""

SIGNATURE_COLUMNS = ["doc_id", "num_shingles", "shingle_set_hash", "minhash"]


@dataclass(frozen=True, kw_only=True)
class IncrementalPairs:
    """What the model ``near_duplicate_pairs`` returns: pairs that publish themselves.

    ``signatures`` and ``documents`` are lake tables. The index is the table ``<pairs>_index``; the version of
    the pairs names it (``extra["index"]``: its digest, and what it was made for), so that an index that is
    missing, older, newer or of other parameters is noticed, and everything is built anew.
    """

    signatures: Table
    documents: Table
    threshold: float = THRESHOLD
    ngram: int = NGRAM
    memory_bytes: int = field(default_factory=memory_setting)
    threads: int | None = None
    caps: Caps = CAPS

    def predict(self) -> Prediction:
        """What a full build will take, from the rows and bytes of the documents."""
        return estimate_near_duplicates(
            self.signatures.num_rows,
            _text_bytes(self.documents),
            threshold=self.threshold,
            memory_bytes=self.memory_bytes,
            threads=self.threads,
        )

    def publish(
        self, lake: Lake, name: str, current: Table | None, provenance: Provenance
    ) -> tuple[TableVersion, str, str]:
        """Write index and pairs; return the version, built | extended | unchanged, and a message.

        ``current`` is the table as it stands, or ``None`` where everything is to be built anew.
        """
        with lake.lease(name.partition(".")[0], purpose=f"pairs of {name}"):
            if current is not None:
                index = self._index_of(lake, current)
                if index is not None:
                    for thorough in (False, True):
                        with contextlib.suppress(Unresolved):
                            done = self._extend(lake, current, index, provenance, thorough=thorough)
                            if done is not None:
                                return done
                            break
            return self._build(lake, name, provenance)

    def _build(self, lake: Lake, name: str, provenance: Provenance) -> tuple[TableVersion, str, str]:
        prediction = self.predict()
        LOG.info("%s: %s", name, prediction)
        rows = index_rows(self.signatures.scan(SIGNATURE_COLUMNS), self.threshold)
        index = lake.write(index_name(name), rows, provenance=self._index_provenance(provenance))
        pairs = pairs_from_signatures(
            self.signatures,
            self.documents,
            threshold=self.threshold,
            ngram=self.ngram,
            memory_bytes=self.memory_bytes,
            threads=self.threads,
            caps=self.caps,
        )
        version = lake.write(name, pairs, provenance=self._with_index(provenance, index))
        return version, "built", f"{version.num_rows:,} pairs; predicted for {prediction}"

    def _extend(
        self, lake: Lake, current: Table, index: Table, provenance: Provenance, *, thorough: bool
    ) -> tuple[TableVersion, str, str] | None:
        with tempfile.TemporaryDirectory(prefix="headwater-dedup-") as folder:
            increment = Increment(
                Path(folder),
                index=index,
                pairs=current,
                signatures=self.signatures,
                documents=self.documents,
                threshold=self.threshold,
                ngram=self.ngram,
                memory_bytes=self.memory_bytes,
                threads=self.threads,
                caps=self.caps,
                thorough=thorough,
            )
            with contextlib.closing(increment):
                change = increment.change
                if not change.worth_it:
                    return None
                added = increment.index_added()
                if added.schema != index.schema:  # another num_perm
                    return None
                gone, come = increment.find(added)
                index = lake.update(
                    index.name,
                    add=added,
                    remove=increment.removed_ids(),
                    provenance=self._index_provenance(provenance),
                )
                record = self._with_index(provenance, index)
                if not gone and not come:
                    version = lake.rerecord(current.name, record)
                else:
                    version = lake.update(
                        current.name,
                        add=increment.added_rows(),
                        remove=increment.removed_keys(),
                        key="a",
                        provenance=record,
                    )
        documents = f"{change.num_added:,} documents came, {change.num_removed:,} went"
        if not gone and not come:
            return version, "unchanged", f"{documents}: no pair changed"
        return version, "extended", f"{documents}: {come:,} pairs came, {gone:,} went"

    def _index_of(self, lake: Lake, current: Table) -> Table | None:
        """The index that belongs to exactly this version of the pairs."""
        recorded = current.provenance.extra.get("index")
        name = index_name(current.name)
        if not isinstance(recorded, dict) or current.schema != PAIRS or not lake.exists(name):
            return None
        index = lake.table(name)
        same = recorded.get("digest") == index.digest and recorded.get("request") == self._request()
        return index if same else None

    def _request(self) -> dict[str, Any]:
        return index_request(self.threshold, self.ngram, self.caps, self.signatures)

    def _with_index(self, provenance: Provenance, index: Table) -> Provenance:
        record = {**index.ref.to_dict(), "request": self._request()}
        return replace(provenance, extra={**provenance.extra, "index": record})

    def _index_provenance(self, provenance: Provenance) -> Provenance:
        return replace(provenance, inputs=(self.signatures.ref,))


def _text_bytes(documents: Table) -> int:
    """Bytes of text, from the column that counts them; without it, of the stored files."""
    if "text_bytes" in documents.schema.names:
        return sum(pc.sum(batch["text_bytes"]).as_py() or 0 for batch in documents.scan(["text_bytes"]))
    files = (file for part in documents.dataset.get_fragments() for file in part.metadata.files)
    return int(STORED_RATIO * sum(file.file_size_bytes or 0 for file in files))
