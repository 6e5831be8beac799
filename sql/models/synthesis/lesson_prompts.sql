-- Prompts for lessons that start from real code: one for each of the best documents of the textbook.
{{ config(enabled=var('generate_lessons', false)) }}

with seeds as (
    select t.doc_id
    from {{ ref('python_textbook') }} t
    where t.num_words between 80 and 2000
    order by t.comment_line_share desc, t.doc_id
    limit {{ var('lesson_seeds', 50) }}
)

select *
from {{ headwater.prompt_grid(
    recipe='lessons',
    system='You explain Python in clear, short sentences.',
    template=headwater.seed_text(characters=500)
        ~ '\n\nExplain one idea of this Python code to {audience}, in three to five sentences. {style} '
        ~ 'You may use the words {words}.',
    axes={
        'audience': ['a curious beginner', 'a first-year student', 'a working programmer'],
        'style': ['Say what it is good for.', 'Compare it with something that everybody knows.', 'Give a tiny example.'],
    },
    words={'from': ref('lesson_words'), 'n': 2},
    seeds='(from seeds)',
) }}
