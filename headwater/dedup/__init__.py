"""Near-duplicates: MinHash over word shingles, banded in DuckDB, verified by exact Jaccard.

``near_duplicate_pairs`` takes documents and returns verified pairs; ``pairs_from_signatures`` does the same
from a stored table of signatures (operator ``minhash_signature``), fetching only the texts that it must
compare; ``duplicate_clusters`` and ``total_clusters`` turn pairs into connected components.
"""

from headwater.dedup.bands import Bands, bands_for
from headwater.dedup.clusters import duplicate_clusters, total_clusters
from headwater.dedup.pairs import near_duplicate_pairs, pairs_from_signatures

__all__ = [
    "Bands",
    "bands_for",
    "duplicate_clusters",
    "near_duplicate_pairs",
    "pairs_from_signatures",
    "total_clusters",
]
