"""Decontamination: which documents hold text of evaluation sets, with the evidence.

    evaluation items (a table) → n-gram index → documents, streamed once → evidence per (document, item)
      → decision rules and an allow-list, in SQL (``sql/macros/decontamination.sql``)

Evidence is kept apart from decisions: most n-gram hits are false positives, and a changed rule or allow-list
must not scan the corpus again.
"""

from headwater.decontaminate.evidence import EVIDENCE, EvidenceBuild, eval_evidence
from headwater.decontaminate.items import EVAL_ITEMS, add_eval_set, eval_sets, read_eval_set
from headwater.decontaminate.scan import MATCH, EvalIndex, Settings

__all__ = [
    "EVAL_ITEMS",
    "EVIDENCE",
    "MATCH",
    "EvalIndex",
    "EvidenceBuild",
    "Settings",
    "add_eval_set",
    "eval_evidence",
    "eval_sets",
    "read_eval_set",
]
