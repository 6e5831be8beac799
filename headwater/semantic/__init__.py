"""Selection by meaning, from stored embeddings: clusters, near-equal pairs, topics.

``semantic_clusters`` groups documents by the direction of their vectors and says how typical each is;
``semantic_pairs`` lists those of one cluster that nearly coincide (SemDeDup); ``semantic_duplicates`` turns
pairs into connected components; ``topics`` names the clusters.
"""

from headwater.semantic.clusters import default_clusters, semantic_clusters
from headwater.semantic.pairs import semantic_duplicates, semantic_pairs
from headwater.semantic.topics import topics

__all__ = ["default_clusters", "semantic_clusters", "semantic_duplicates", "semantic_pairs", "topics"]
