"""Recipes: YAML files become typed, frozen, validated objects. Imports no torch."""

from warp_train.recipe.resolving import dump_recipe, load_recipe
from warp_train.recipe.schema import Chain, Recipe, recipe_schema, recipe_warnings

__all__ = [
    "Chain",
    "Recipe",
    "dump_recipe",
    "load_recipe",
    "recipe_schema",
    "recipe_warnings",
]
