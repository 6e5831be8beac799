{#- Whether a row of `eval_overlap_matches` is contamination by a published rule. Evidence is stored for word
    n-grams of 8, 10 and 13; a rule looks at the rows of its own n.

    gpt3_13gram    any shared 13-gram (arXiv 2005.14165, C; words for its tokens)
    palm_8gram     at least 70 % of the item's 8-grams (arXiv 2204.02311, 8)
    llama2         more than 80 % of the item's words in shared runs of at least 10 (arXiv 2307.09288, A.6; words
                   for its tokens, no skip-gram budget)
    longest_match  the longest shared run is at least `share` of the item (ConTAM, arXiv 2411.03923; the paper
                   chooses the share for each benchmark and model)
    ai2_decon      more than 80 % of the item's 8-grams, and all of them for items of at most 20 words, with a
                   straight line up to 50 (allenai/decon; unweighted here)
    headwater      a shared 13-gram of which at least 7 words hold a letter, or 70 % of the 8-grams with at least
                   4 such words: rows of numbers are in every corpus -#}
{% macro is_contaminated(rule='headwater', share=0.5) -%}
  {%- set rules = {
    'gpt3_13gram': "ngram = 13 and num_hits > 0",
    'palm_8gram': "ngram = 8 and item_share >= 0.7",
    'llama2': "ngram = 10 and word_share > 0.8",
    'longest_match': "ngram = 8 and longest_match_words >= " ~ share ~ " * item_words",
    'ai2_decon': "ngram = 8 and (item_share = 1 or item_share > greatest(0.8, least(1.0, 0.8 + 0.2 * (50 - item_words) / 30)))",
    'headwater': "(ngram = 13 and num_hits > 0 and longest_match_words >= 13 and letter_words >= 7) or (ngram = 8 and item_share >= 0.7 and letter_words >= 4)",
  } -%}
  {%- if rule not in rules -%}
    {{ exceptions.raise_compiler_error("unknown contamination rule " ~ rule ~ "; known: " ~ rules.keys() | join(", ")) }}
  {%- endif -%}
  ({{ rules[rule] }})
{%- endmacro %}


{#- Whether a row of `eval_overlap_matches` (`m`) is on the allow-list (`a`, the seed `eval_allow_list`): the whole
    item, or this very run of words; an empty cell of the list stands for any. -#}
{% macro is_allowed(m='m', a='a') -%}
  (
    coalesce({{ a }}.eval_set, '') in ('', {{ m }}.eval_set)
    and coalesce({{ a }}.item_id, '') in ('', {{ m }}.item_id)
    and coalesce({{ a }}.match_hash, '') in ('', {{ m }}.match_hash)
    and (coalesce({{ a }}.item_id, '') != '' or coalesce({{ a }}.match_hash, '') != '')
  )
{%- endmacro %}
