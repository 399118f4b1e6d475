"""`recipes`: the recipes that come with the package."""

from __future__ import annotations

import argparse

from warp_train.commands.files import print_document
from warp_train.recipe.shipped import recipes_folder, shipped_recipes
from warp_train.runtime.errors import WarpTrainError


def run(arguments: argparse.Namespace) -> int:
    """Lists the recipes with one line each, or prints the file of one of them."""
    recipes = shipped_recipes()
    if arguments.name is None:
        width = max(map(len, recipes))
        for name, about in recipes.items():
            print(f"{name:{width}}  {about}")
        return 0
    path = recipes_folder() / f"{arguments.name}.yaml"
    if not path.is_file():
        raise WarpTrainError(
            f"{arguments.name}: no recipe of the package; there are {', '.join(recipes)}"
        )
    print_document(path.read_text("utf-8"))
    return 0
