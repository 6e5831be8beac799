"""Prompts in, completions out: endpoints, local models and programs behind one interface.

generator = open_generator("http://127.0.0.1:8000/v1#my-model", api_key_env="MY_KEY")
for completion in generator.complete([Prompt.chat("p1", "Explain recursion.")]):
    print(completion.text or completion.error)
"""

from __future__ import annotations

from headwater.synthesis.generate.budget import Budget, Prices, RateLimit
from headwater.synthesis.generate.generator import Completion, Generator, Prompt
from headwater.synthesis.generate.open import open_generator

__all__ = ["Budget", "Completion", "Generator", "Prices", "Prompt", "RateLimit", "open_generator"]
