"""`schema`: the JSON schema of recipes, for editors."""

from __future__ import annotations

import argparse
import json

from warp_train.commands.files import print_document, write_result
from warp_train.recipe import recipe_schema


def run(arguments: argparse.Namespace) -> int:
    """Prints the schema or writes it to a file."""
    text = json.dumps(recipe_schema(), indent=2) + "\n"
    if arguments.out is None:
        print_document(text)
    else:
        write_result("--out", arguments.out, text)
    return 0
