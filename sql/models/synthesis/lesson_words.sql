-- Words for the prompts of `lesson_prompts`: a story or lesson that must use them differs from the last one.
{{ config(enabled=var('generate_lessons', false)) }}

select unnest([
    'ladder', 'river', 'ticket', 'garden', 'invoice', 'compass', 'orchestra', 'recipe', 'lighthouse', 'queue', 'bridge',
    'passport', 'library', 'thermometer', 'market', 'satellite', 'bakery', 'archive', 'elevator', 'harbor', 'notebook',
    'tournament', 'weather', 'museum', 'telescope', 'festival', 'warehouse', 'glacier', 'postman', 'chessboard'
]) as word
