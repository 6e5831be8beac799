{{ config(enabled=var('decontaminate', false)) }}

with hits as (
    select
        m.*,
        {{ headwater.is_contaminated(var('contamination_rule', 'headwater')) }} as is_contaminated,
        exists (from {{ ref('eval_allow_list') }} a where {{ headwater.is_allowed('m', 'a') }}) as is_allowed
    from {{ ref('eval_overlap_matches') }} m
),

counted as (
    select
        doc_id,
        count(distinct (eval_set, item_id)) filter (where is_contaminated and not is_allowed) as eval_hits,
        count(distinct (eval_set, item_id)) filter (where is_contaminated and is_allowed) as allowed_hits,
        max(item_share) filter (where not is_allowed) as worst_share,
        max(longest_match_words) filter (where not is_allowed) as longest_match_words,
        max_by(eval_set, (is_contaminated, item_share, longest_match_words, eval_set, item_id))
            filter (where not is_allowed) as worst_eval_set,
        max_by(item_id, (is_contaminated, item_share, longest_match_words, eval_set, item_id))
            filter (where not is_allowed) as worst_item_id
    from hits
    group by doc_id
)

select
    e.doc_id,
    e.text_hash,
    len(e.checked) as num_eval_sets,
    coalesce(c.eval_hits, 0) as eval_hits,
    coalesce(c.allowed_hits, 0) as allowed_hits,
    coalesce(c.worst_share, 0) as worst_share,
    coalesce(c.longest_match_words, 0) as longest_match_words,
    c.worst_eval_set,
    c.worst_item_id
from {{ ref('eval_evidence') }} e
left join counted c on c.doc_id = e.doc_id
