"""The recipes of this folder by name; what a recipe says stands in ``headwater.training.recipe``."""

from pathlib import Path

from headwater.training import recipe
from headwater.training.recipe import Recipe, check_recipe

__all__ = ["Recipe", "check_recipe", "find_recipe"]


def find_recipe(name: str) -> Recipe:
    """A function of ``recipes/``, or ``path/to/file.py:function``. Raises ``UnknownName``, ``UsageError``."""
    return recipe.find_recipe(name, Path(__file__).parent / "recipes")
