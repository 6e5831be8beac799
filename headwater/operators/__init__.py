"""Operators (C2): pure functions from Arrow arrays to an Arrow array, callable three ways.

One declaration (:func:`operator` as a decorator) makes a function callable on Arrow arrays, as a DuckDB SQL
function, as a Polars expression and over record batches. A user's own module registers its operators the
same way. Operators annotate: they return one value per row and delete nothing.

>>> import pyarrow as pa
>>> operator("text_hash")(pa.array(["a", None])).null_count
1
"""

from headwater.operators import (  # imported for what they register
    code_stats as _code_stats,
)
from headwater.operators import minhash as _minhash
from headwater.operators import seeded_hash as _seeded_hash
from headwater.operators import text_hash as _text_hash
from headwater.operators import text_stats as _text_stats
from headwater.operators import tokens as _tokens
from headwater.operators.registry import Operator, get, operator, register_all, registered

_BUILT_IN = (_code_stats, _minhash, _seeded_hash, _text_hash, _text_stats, _tokens)

__all__ = ["Operator", "get", "operator", "register_all", "registered"]
