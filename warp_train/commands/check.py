"""`check`: a recipe as it would be trained, with every key."""

from __future__ import annotations

import argparse

from warp_train.commands.files import print_document
from warp_train.recipe import dump_recipe, load_recipe, recipe_warnings
from warp_train.runtime.console import say


def run(arguments: argparse.Namespace) -> int:
    """Prints the resolved recipe; its errors are raised."""
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    print_document(dump_recipe(recipe))
    for warning in recipe_warnings(recipe):
        say(f"warning: {warning}")
    return 0
