{#- Prompts of published recipes as relations, for models that `headwater generate` reads: prompt_grid with the words
    and lists of headwater.synthesis.recipes, which may all be given in their place.

        select * from {{ headwater.tinystories_prompts(ref('story_vocabulary'), limit=1000) }} -#}

{#- Sections of a textbook: topic x audience x constraint (phi-1, arXiv 2306.11644). -#}
{% macro phi1_textbook_prompts(topics, audiences=none, constraints=none, limit=none, samples=1, seed=0) -%}
  {{ headwater.prompt_grid(
    recipe='phi1_textbook',
    template='Write a section of a Python textbook on {topic}, for {audience}. As you write, {constraint}. Reason in clear prose, and let short, complete code carry the argument.',
    axes={
      'topic': topics,
      'audience': audiences or ['someone who writes a first program', 'a high-school student', 'a scientist who knows another language', 'a first-year student of computer science', 'an engineer who reviews code'],
      'constraint': constraints or ['explain the idea before the first line of code', 'begin from a mistake that people make', 'show two ways and compare what they cost', 'use one example from everyday life throughout', 'end with two questions that make the reader think'],
    },
    limit=limit, samples=samples, seed=seed,
  ) }}
{%- endmacro %}


{#- Exercises whose function's name is a constraint of its own (phi-1). check_exercises judges what comes of them. -#}
{% macro phi1_exercise_prompts(topics, verbs, nouns, audiences=none, limit=none, samples=1, seed=0) -%}
  {{ headwater.prompt_grid(
    recipe='phi1_exercise',
    template='Write one Python exercise on {topic}, for {audience}. Answer with code only: a function called {verb}_{noun}, whose docstring says what it does and gives two examples as a Python session (>>>), and then its solution.',
    axes={'topic': topics, 'audience': audiences or ['someone who writes a first program', 'a high-school student', 'a first-year student of computer science'], 'verb': verbs, 'noun': nouns},
    limit=limit, samples=samples, seed=seed,
  ) }}
{%- endmacro %}


{#- Stories with three words of a vocabulary each (TinyStories, arXiv 2305.07759).

    vocabulary   relation with a column `word`: what tinystories.vocabulary_words wrote -#}
{% macro tinystories_prompts(vocabulary, limit=none, samples=200, seed=0) -%}
  {{ headwater.prompt_grid(
    recipe='tinystories',
    template='Write a short story (three to five paragraphs) which only uses very simple words that a small child understands. The story must use the words {words}. The story has {feature}. Remember to use only simple words.',
    axes={'feature': ['a dialogue', 'a plot twist', 'a bad ending', 'a moral value', 'a foreshadowing', 'a conflict']},
    words={'from': '(select word from ' ~ vocabulary ~ ' where length(word) >= 3)', 'n': 3},
    limit=limit, samples=samples, seed=seed,
  ) }}
{%- endmacro %}


{#- Texts seeded by real rows, each for an audience and in a style (Cosmopedia).

    seeds   relation with doc_id: as many rows of each cluster as are wanted -#}
{% macro cosmopedia_prompts(seeds, audiences=none, styles=none, characters=800, samples=1, limit=none, seed=0) -%}
  {{ headwater.prompt_grid(
    recipe='cosmopedia',
    template='[[seed, ' ~ characters ~ ' characters]]\n\nTake the subject of this text, not its words, and write {style}. Write for {audience}.',
    axes={
      'audience': audiences or ['young children', 'high-school students', 'college students', 'researchers', 'general readers'],
      'style': styles or ['a section of a textbook: definitions, then an example worked through', 'a blog post that begins from a question and answers it', 'a story in which somebody finds out why this matters', 'step-by-step instructions, with what can go wrong at each step'],
    },
    seeds=seeds, limit=limit, samples=samples, seed=seed,
  ) }}
{%- endmacro %}
