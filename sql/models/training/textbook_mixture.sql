{{ config(enabled=var('textbook_mixture', false)) }}

select *
from {{ headwater.mixture({
    'commented': {
        'from': ref('python_textbook'), 'where': 'comment_line_share >= 0.1', 'share': 0.8, 'max_epochs': 4
    },
    'plain': {
        'from': ref('python_textbook'), 'where': 'comment_line_share < 0.1', 'share': 0.2
    },
}) }}
