{{ config(enabled=var('synthetic', false) or var('mixed_textbook', false)) }}

-- The caps as the lake knows them: a versioned copy of the seed, so that a build names what it used.
select domain, max_share, max_generation
from {{ ref('synthetic_caps') }}
