"""Published recipes for synthetic text, small and end to end: prompts as a table, rules on what comes back.

``phi1`` (textbooks and exercises), ``tinystories``, ``self_instruct`` and ``cosmopedia``. Prompts go through
``headwater generate`` with any generator; what is accepted is a table, and what is not has its reason.
"""
