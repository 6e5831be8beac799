"""Search the documents by meaning and by words, each hit with what the lake knows of it.

    report = search(lake, "binary search tree", limit=5)
    build_indexes(lake)                    # once, and again when many documents came

The indexes are Lance's and lie in the tables' own folders: LanceDB opens the same tables and uses them.
"""

from headwater.search.indexes import IndexState, build_indexes, index_states
from headwater.search.run import Hit, SearchReport, search

__all__ = ["Hit", "IndexState", "SearchReport", "build_indexes", "index_states", "search"]
