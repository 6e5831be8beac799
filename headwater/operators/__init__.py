"""Operators (C2): pure functions from Arrow arrays to an Arrow array, callable three ways.

One declaration (:func:`operator` as a decorator) makes a function callable on Arrow arrays, as a DuckDB SQL
function, as a Polars expression and over record batches. A user's own module registers its operators the
same way. Operators annotate: they return one value per row and delete nothing.

>>> import pyarrow as pa
>>> operator("text_hash")(pa.array(["a", None])).null_count
1
"""

from headwater.operators import blocked_words as _blocked_words
from headwater.operators import c4 as _c4
from headwater.operators import (  # imported for what they register
    code_stats as _code_stats,
)
from headwater.operators import datatrove_minhash as _datatrove_minhash
from headwater.operators import edu_score as _edu_score
from headwater.operators import fasttext_classifier as _fasttext_classifier
from headwater.operators import file_stats as _file_stats
from headwater.operators import language as _language
from headwater.operators import license_evidence as _license_evidence
from headwater.operators import line_counts as _line_counts
from headwater.operators import machine_text as _machine_text
from headwater.operators import minhash as _minhash
from headwater.operators import normalized_text_hash as _normalized_text_hash
from headwater.operators import pii as _pii
from headwater.operators import programming_language as _programming_language
from headwater.operators import rouge_l as _rouge_l
from headwater.operators import seeded_hash as _seeded_hash
from headwater.operators import text_classifier as _text_classifier
from headwater.operators import text_hash as _text_hash
from headwater.operators import text_stats as _text_stats
from headwater.operators import tokens as _tokens
from headwater.operators import vocabulary as _vocabulary
from headwater.operators import web_license as _web_license
from headwater.operators import web_stats as _web_stats
from headwater.operators.registry import Operator, get, operator, register_all, registered

_BUILT_IN = (
    _blocked_words,
    _c4,
    _code_stats,
    _datatrove_minhash,
    _edu_score,
    _fasttext_classifier,
    _file_stats,
    _language,
    _license_evidence,
    _line_counts,
    _machine_text,
    _minhash,
    _normalized_text_hash,
    _pii,
    _programming_language,
    _rouge_l,
    _seeded_hash,
    _text_classifier,
    _text_hash,
    _text_stats,
    _tokens,
    _vocabulary,
    _web_license,
    _web_stats,
)

__all__ = ["Operator", "get", "operator", "register_all", "registered"]
