{#- The entries of a word list in the form `blocked_words(text, words := …)` takes: one on each line.

    relation   a table with the column `word`, and `language` when one is named: ref('blocked_words')
    language   take only this list; none takes all -#}
{% macro word_list(relation, language=none) -%}
  (select string_agg(word, chr(10) order by word) from {{ relation }}
   {%- if language is not none %} where language = '{{ language | replace("'", "''") }}'{% endif %})
{%- endmacro %}


{#- The host name of a URL, lower-cased, without user, port and final dot; '' when there is none.
    A URL may come without its scheme. An IPv6 address keeps its brackets. -#}
{% macro url_host(url) -%}
  rtrim(lower(regexp_extract(
    {{ url }}, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://)?(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^/?#:@]+)', 1
  )), '.')
{%- endmacro %}


{#- A host name and every domain above it but the last label: a.b.example.com gives
    a.b.example.com, b.example.com, example.com. -#}
{% macro domains_of(host) -%}
  list_transform(
    range(1, greatest(len(string_split({{ host }}, '.')), 2)),
    lambda place: array_to_string(string_split({{ host }}, '.')[place:], '.')
  )
{%- endmacro %}


{#- One row for each document whose URL's host, or a domain above it, is in a list: doc_id, and the
    categories it is listed under, in order. A hash join: a list of millions of domains costs its rows.

    documents   a relation with doc_id and a URL
    blocklist   a relation with `domain` (lower case) and `category` -#}
{% macro listed_domains(documents, blocklist, url="url") -%}
  select hosts.doc_id, list_sort(list_distinct(list(listed.category))) as categories
  from (
    select doc_id, unnest({{ headwater.domains_of("host") }}) as domain
    from (select doc_id, {{ headwater.url_host(url) }} as host from {{ documents }})
    where host <> ''
  ) as hosts
  join {{ blocklist }} as listed on listed.domain = hosts.domain
  group by hosts.doc_id
{%- endmacro %}


{#- The words of a URL for `blocked_words`, as RefinedWeb's and datatrove's filters split them: runs of
    ASCII letters and digits. With strict words, one occurrence decides
    (`.num_entries >= 1`), with soft words two different ones (`.num_entries >= 2`). -#}
{% macro url_words(url) -%}
  regexp_replace({{ url }}, '[^a-zA-Z0-9]+', ' ', 'g')
{%- endmacro %}


{#- The letters and digits of a URL run together, for words that block as any part of it
    (`blocked_words(…, mode := 'substring')`). -#}
{% macro url_letters(url) -%}
  regexp_replace({{ url }}, '[^a-zA-Z0-9]+', '', 'g')
{%- endmacro %}
