"""The ``rejections`` view: every rule that dropped a document, with the values it looked at.

Nothing of it is stored: decisions hold ids and rule names, and the values are looked up in the
signals at the versions the table was built from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from headwater.errors import UnknownName
from headwater.lake import Lake, Table, TableRef
from headwater.report.private import PRIVATE_NAMES, is_private
from headwater.session import Session
from headwater.sql import is_id, run, sql_columns

SEMANTIC, SEMANTIC_GROUP = "semantic_duplicates", "semantic_group"
"""The table of groups by meaning, and what the macro `semantic_unique` calls their column."""

_SKIPPED = frozenset({"doc_id", "text", "text_hash", "metadata"})


@dataclass
class Rejections:
    """The view's SQL for all curated tables of a session, and the pinned scans it reads."""

    schema: str
    queries: list[str] = field(default_factory=list)
    scans: dict[str, Table] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Session) -> Rejections:
        """Collect the curated tables of the session's own schema at their pinned versions."""
        view = cls(session.lake.schema)
        for name, table in sorted(session.tables.items()):
            if name == table.name and "decisions" in table.provenance.extra:
                view.queries.append(view._query(session.lake, table))
        return view

    def register(self, con: duckdb.DuckDBPyConnection) -> None:
        for name, table in self.scans.items():
            con.register(name, table.dataset)

    def create_view(self, con: duckdb.DuckDBPyConnection) -> None:
        if self.queries:
            body = " union all ".join(self.queries)
            run(con, f'create or replace view "{self.schema}".rejections as {body}')

    def _scan(self, table: Table) -> str:
        name = f"_lake_{table.name.replace('.', '__')}__v{table.version}"
        self.scans[name] = table
        return f"(select {sql_columns(table.schema)} from {name})"

    def _query(self, lake: Lake, table: Table) -> str:
        schema, short = table.name.split(".")
        decisions = self._scan(lake.table(f"{schema}.decisions"))
        rules = self._scan(lake.table(f"{schema}.rules"))
        inputs = [t for t in (_open(lake, ref) for ref in table.provenance.inputs) if t is not None]
        joins, values, matching = [], "'{}'", []
        grouped = [i for i, source in enumerate(inputs) if _has_groups(source)]
        for index, source in enumerate(inputs):
            joins.append(f"left join {self._scan(source)} i{index} on i{index}.doc_id = d.doc_id")
            for column in source.schema:
                if column.name in _SKIPPED or is_private(column.name):
                    continue  # a record of why something went must not repeat what it held
                if not pa.types.is_nested(column.type):
                    values = (
                        f"json_merge_patch({values}, case when list_contains(r.columns, '{column.name}') "
                        f"then json_object('{column.name}', i{index}.\"{column.name}\") else '{{}}' end)"
                    )
            if index in grouped:
                # A model that reads two kinds of groups gives those of meaning a name of their own.
                is_semantic = source.short_name == SEMANTIC and len(grouped) > 1
                kept = self._scan(table)
                joins.append(
                    f"left join (select k.cluster_id, min(s.doc_id) as doc_id from {kept} s "
                    f"join {self._scan(source)} k on k.doc_id = s.doc_id group by 1) w{index} "
                    f"on w{index}.cluster_id = i{index}.cluster_id "
                    f"and list_contains(r.columns, '{SEMANTIC_GROUP if is_semantic else 'cluster_id'}')"
                )
                matching.append(f"w{index}.doc_id")
        build = table.provenance.build_id
        mine = f"from {decisions} where build_id = '{build}' and \"table\" = '{short}'"
        return f"""
            select '{short}' as "table", d.build_id, d.doc_id, d.rule, d.outcome, r.expression,
                   r.description, case when {_private_rule()} then '{{}}' else {values} end as "values",
                   {f"coalesce({', '.join(matching)})" if matching else "null::uuid"} as matching_doc_id
            from (
                select build_id, doc_id, unnest(failed) as rule, 'failed' as outcome {mine}
                union all
                select build_id, doc_id, unnest(unknown), 'unknown' {mine}
            ) d
            join {rules} r on r.build_id = d.build_id and r."table" = '{short}' and r.rule = d.rule
            {" ".join(joins)}"""


def _has_groups(table: Table) -> bool:
    """Whether documents are grouped by the id of one of them, so that a survivor can be named."""
    names = table.schema.names
    return "cluster_id" in names and is_id(table.schema.field("cluster_id").type)


def _private_rule() -> str:
    """SQL: whether the rule, or a column it looks at, is about personal data or secrets."""
    pattern = PRIVATE_NAMES.replace("'", "''")
    return (
        f"(regexp_matches(d.rule, '{pattern}') or "
        f"coalesce(list_bool_or(list_transform(r.columns, lambda c: regexp_matches(c, '{pattern}'))), false))"
    )


def _open(lake: Lake, ref: TableRef) -> Table | None:
    """The input at its recorded version when it has one row per document; ``None`` otherwise."""
    if not ref.version:
        return None
    try:
        table = lake.table(ref.name, version=ref.version)
    except UnknownName:
        return None  # cleaned up since: the view then shows the rule without its values
    return table if "doc_id" in table.schema.names else None
