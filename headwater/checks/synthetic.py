"""What suites ask about synthetic documents: views and table macros that every check can use.

They are SQL, so that a suite names the table, the columns and the caps that it is about::

    select * from synthetic_over_cap('mixed_textbook')
    select * from lost_real_documents('mixed_textbook')

``docs/how-to/synthetic-data.md`` has one example of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headwater.lake.approvals import record_tables, standing
from headwater.lake.synthetic import SYNTHETIC_FIELDS

if TYPE_CHECKING:
    from headwater.lake import Lake, Table

PREVIOUSLY_APPROVED = "previously_approved"
"""View of the judged table at the version that was approved last before this one; empty without one."""

PROVENANCE = "provenance"
"""View of what made each synthetic document of the tables that a check sees: ``doc_id``, ``parent_ids`` (as
UUIDs) and the other columns of ``SYNTHETIC_FIELDS``."""

KNOWN_DOCUMENTS = "known_documents"
"""View of every document with text in the tables that a check sees: ``doc_id``, ``generation`` (0: real)."""

_OTHERS = [name for name in SYNTHETIC_FIELDS.names if name != "parent_ids"]

MACROS: Mapping[str, str] = {
    "synthetic_shares(documents, size_column := 'text_bytes', domain_column := 'domain', "
    "caps := 'synthetic_limits')": """
        with sized as (
            select *
            from query(
                'select coalesce(' || domain_column || '::varchar, ''(none)'') as domain, '
                || 'coalesce(origin, ''unknown'') = ''synthetic'' as is_synthetic, '
                || 'coalesce(' || size_column || ', 0) as amount from ' || documents
            )
        ),
        summed as (
            select
                domain,
                count(*) as documents,
                count(*) filter (is_synthetic) as synthetic_documents,
                sum(amount)::double as amount,
                coalesce(sum(amount) filter (is_synthetic), 0)::double as synthetic_amount
            from sized
            group by domain
        )
        select
            s.*,
            case when s.amount > 0 then s.synthetic_amount / s.amount
                 else (s.synthetic_documents > 0)::int::double end as share,
            coalesce(own.max_share, other.max_share, 0)::double as max_share
        from summed s
        left join query_table(caps) own on own.domain = s.domain
        left join query_table(caps) other on other.domain = '*'
        order by s.domain
    """,
    "synthetic_over_cap(documents, size_column := 'text_bytes', domain_column := 'domain', "
    "caps := 'synthetic_limits')": """
        select *
        from synthetic_shares(
            documents, size_column := size_column, domain_column := domain_column, caps := caps
        )
        where share > max_share
    """,
    "synthetic_too_deep(documents, domain_column := 'domain', caps := 'synthetic_limits')": """
        with named as (
            select *
            from query(
                'select doc_id, coalesce(' || domain_column || '::varchar, ''(none)'') as domain from '
                || documents || ' where origin = ''synthetic'''
            )
        )
        select
            n.domain,
            count(*) as documents,
            max(p.generation) as deepest,
            any_value(coalesce(own.max_generation, other.max_generation, 0)) as max_generation
        from named n
        join provenance p using (doc_id)
        left join query_table(caps) own on own.domain = n.domain
        left join query_table(caps) other on other.domain = '*'
        where p.generation > coalesce(own.max_generation, other.max_generation, 0)
        group by n.domain
        order by n.domain
    """,
    "unaccounted_documents(documents)": """
        select d.doc_id
        from query_table(documents) d
        anti join provenance p using (doc_id)
        where d.origin = 'synthetic'
    """,
    "inconsistent_generations(documents)": """
        with parents as (
            select p.doc_id, p.generation, unnest(p.parent_ids) as parent_id
            from provenance p
            semi join query_table(documents) d using (doc_id)
        ),
        judged as (
            select
                c.doc_id,
                any_value(c.generation) as generation,
                1 + max(k.generation) as expected,
                count(*) = count(k.doc_id) as all_known
            from parents c
            left join known_documents k on k.doc_id = c.parent_id
            where c.parent_id <> c.doc_id
            group by c.doc_id
        )
        select doc_id, generation, expected
        from judged
        where generation < expected or (all_known and generation <> expected)
    """,
    "unverified_rewards(documents)": """
        select p.doc_id
        from provenance p
        semi join query_table(documents) d using (doc_id)
        where p.reward is not null and coalesce(p.verifier, '') = ''
    """,
    "lost_real_documents(documents, base := 'candidates')": """
        select p.doc_id
        from previously_approved p
        semi join query_table(base) b using (doc_id)
        anti join query_table(documents) d using (doc_id)
        where p.origin is distinct from 'synthetic'
    """,
    "machine_written_sources(evidence, threshold := 0.5, max_share := 0.05)": """
        select
            source,
            count(*) as documents,
            count(*) filter (machine_score >= threshold) as machine_written,
            machine_written / documents as share,
            max_share as most
        from query_table(evidence)
        where origin = 'human'
        group by source
        having machine_written > max_share * count(*)
        order by share desc, source
    """,
}
"""Signature -> body of each table macro."""


def previously_approved(lake: Lake, table: Table) -> Table | None:
    """The version of ``table`` that was approved last, of those before it; ``None`` when there is none."""
    found = [
        approval.table
        for approval in standing(lake, record_tables(lake, table.name))
        if approval.table.name == table.name and approval.table.version < table.version
    ]
    return lake.table(found[-1].name, version=found[-1].version) if found else None


def document_tables(tables: Sequence[Table]) -> list[Table]:
    """Those that hold documents, the ones made first first."""
    return [table for table in tables if table.has_text and "doc_id" in table.schema.names]


def provenance_query(relations: Sequence[tuple[Table, str]]) -> str:
    """SQL of the view :data:`PROVENANCE` over document tables, each with the name of its view.

    A text that was made anew (redacted, cleaned) names its own document as its parent: there the
    provenance of the table it was made from counts, and it is left out.
    """
    parts = []
    for table, relation in relations:
        if not {"generation", "parent_ids"} <= set(table.schema.names):
            continue
        columns = [f'"{name}"' if name in table.schema.names else f'null as "{name}"' for name in _OTHERS]
        parts.append(
            f"select doc_id, list_transform(parent_ids, lambda x: x::blob::uuid) as parent_ids, "
            f"{', '.join(columns)} from {relation} where generation > 0 "
            "and not list_contains(parent_ids, doc_id::blob)"
        )
    return " union all ".join(parts) or (
        "select null::uuid as doc_id, []::uuid[] as parent_ids, null::varchar as generator, "
        "null::varchar as generator_version, null::varchar as prompt_id, 0 as generation, "
        "null::varchar as parameters, null::varchar as verifier, null::double as reward where false"
    )


def known_query(relations: Sequence[tuple[Table, str]]) -> str:
    """SQL of the view :data:`KNOWN_DOCUMENTS` over document tables, each with the name of its view."""
    parts = [
        f"select doc_id, {'coalesce(generation, 0)' if 'generation' in table.schema.names else '0'} "
        f"as generation from {relation}"
        for table, relation in relations
    ]
    one = " union all ".join(parts) or "select null::uuid as doc_id, 0 as generation where false"
    return f"select doc_id, max(generation) as generation from ({one}) group by doc_id"
