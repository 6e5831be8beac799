-- Another pass over the text, so it is built where the project says `edu_scores: true`.
{{ config(enabled=var("edu_scores", false), meta={"rows_of": "raw.documents"}) }}

select
    doc_id,
    text_hash,
    edu_score(text, scorer := '{{ var("edu_scorer", "python") }}')                      as edu_score,
    edu_score(text, scorer := '{{ var("edu_scorer", "python") }}', calibrated := false) as edu_score_raw
from {{ source('lake', 'documents') }}
