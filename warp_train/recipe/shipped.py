"""The recipes that come with the package, by their names: `quickstart` is `quickstart.yaml`."""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"\w{1,64}")
_COMMENT = re.compile(r"^# ?(.*)$", re.MULTILINE)
_STAGE = re.compile(r"^(stage|stages|extends):", re.MULTILINE)


def named_recipe(name: Path) -> Path:
    """The shipped recipe of a bare name, such as `quickstart`; any other path as it is.

    A file of that name in the working directory has precedence.
    """
    text = str(name)
    shipped = recipes_folder() / f"{text}.yaml"
    bare = _NAME.fullmatch(text) is not None
    return shipped if bare and not name.is_file() and shipped.is_file() else name


@lru_cache(maxsize=1)
def recipes_folder() -> Path:
    """The folder of the shipped recipes: in the package, or beside it in a clone."""
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"


def similar_recipe(name: Path) -> str | None:
    """The name of the shipped recipe that a bare name is most similar to."""
    names = [path.stem for path in recipes_folder().glob("*.yaml")]
    return next(iter(difflib.get_close_matches(str(name), names, 1)), None)


def shipped_recipes() -> dict[str, str]:
    """The first sentence of each recipe that can be trained, by name."""
    texts = {path.stem: path.read_text("utf-8") for path in recipes_folder().glob("*.yaml")}
    return {name: _about(text) for name, text in sorted(texts.items()) if _STAGE.search(text)}


def _about(text: str) -> str:
    """The first sentence of the comment at the top, after the line for editors."""
    lines = _COMMENT.findall(text.partition("\n\n")[0])
    words = " ".join(line for line in lines if not line.startswith("yaml-language-server"))
    return words.strip().partition(". ")[0].rstrip(".")
