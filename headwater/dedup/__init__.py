"""Near-duplicates: MinHash over word shingles, banded in DuckDB, verified by exact Jaccard.

``near_duplicate_pairs`` takes documents and returns verified pairs; ``pairs_from_signatures`` does the same
from a stored table of signatures (operator ``minhash_signature``), fetching only the texts that it must
compare; ``IncrementalPairs`` keeps them in the lake, with an index, so that new documents cost only
themselves; ``duplicate_clusters`` and ``total_clusters`` turn pairs into connected components.
"""

from headwater.dedup.bands import Bands, bands_for
from headwater.dedup.clusters import duplicate_clusters, total_clusters
from headwater.dedup.estimate import Prediction, estimate_near_duplicates
from headwater.dedup.pairs import near_duplicate_pairs, pairs_from_signatures
from headwater.dedup.publish import IncrementalPairs

__all__ = [
    "Bands",
    "IncrementalPairs",
    "Prediction",
    "bands_for",
    "duplicate_clusters",
    "estimate_near_duplicates",
    "near_duplicate_pairs",
    "pairs_from_signatures",
    "total_clusters",
]
