"""Checks before the first step that all ranks have the same recipe, data and code."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object

import warp_train
from warp_train.recipe import Recipe
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.section import config_differences
from warp_train.training.feeding import Data

_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the recipe, data and code of a process, small enough to exchange."""

    recipe: dict[str, Any]
    data: str
    """The number of samples and a digest of their names."""
    code: str
    """The version and a digest of the package's source files."""


def require_agreement(recipe: Recipe, data: Data, accelerator: Accelerator) -> None:
    """Compares recipe (with its seed), data listing and code of all processes.

    Collective: call on every rank.

    Raises:
        WarpTrainError: on every rank, if one differs from the first.
    """
    if accelerator.num_processes == 1:
        return
    mine = Fingerprint(recipe.model_dump(mode="json", by_alias=True), data.listing, code_version())
    compare(gather_object([mine]))


def compare(fingerprints: Sequence[Fingerprint]) -> None:
    """Raises WarpTrainError for the first rank whose recipe, data or code differs from rank 0."""
    first = fingerprints[0]
    for rank, other in enumerate(fingerprints[1:], start=1):
        differences = config_differences(first.recipe, other.recipe)
        if differences:
            shown = "; ".join(differences[:_SHOWN_DIFFERENCES])
            raise WarpTrainError(f"rank {rank} has another recipe than rank 0: {shown}")
        for what in ("data", "code"):
            here, there = getattr(first, what), getattr(other, what)
            if here != there:
                raise WarpTrainError(f"rank {rank} has other {what} than rank 0: {here} -> {there}")


@lru_cache(maxsize=1)
def code_version() -> str:
    """The package's version and a digest of its source files."""
    folder = Path(warp_train.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return f"{warp_train.__version__} ({digest.hexdigest()[:12]})"
