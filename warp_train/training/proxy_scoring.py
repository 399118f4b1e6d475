"""The work of a scoring process: imports a scorer by its name and checks its results.

Without torch, which would take a scoring process longer to import than a picture to score.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from warp_train.training.protocols import ProxyResult, ProxyScorer

Pictures = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A prediction and its target, RGB [H, W, 3] in 0..1."""
SUB_SCORES = ("edge", "line", "grad", "ssim", "mae")


def start_scoring(name: str) -> Callable[[Pictures], ProxyResult | str]:
    """What a scoring process starts with: the scoring of a prediction and its target."""
    return lambda pictures: score_picture(name, *pictures)


def score_picture(
    name: str, pred: NDArray[np.float32], target: NDArray[np.float32]
) -> ProxyResult | str:
    """The scores of RGB pictures [H, W, 3] in 0..1 by the scorer `module:function`, or in words
    why there are none."""
    scorer = load_scorer(name)
    if isinstance(scorer, str):
        return scorer
    try:
        return _checked(scorer(pred, target, None))
    except Exception as error:  # a plugged-in scorer may raise anything
        return f"proxy.scorer is switched off: it failed ({_describe(error)})"


@lru_cache
def load_scorer(name: str) -> ProxyScorer | str:
    """Imports the scorer `module:function`; in words why not, if that fails.

    The working directory is importable meanwhile, as it is for `data.external`.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        scorer: ProxyScorer = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # importing runs the user's code
        reason = _describe(error)
        return f"proxy.scorer {name}: cannot be imported ({reason}); training continues without it"
    finally:
        sys.path.remove(here)
    return scorer


def _checked(result: Mapping[str, Any]) -> ProxyResult:
    """The result with plain numbers; raises on a missing key or a score that is not 0..1."""
    scores = {"total_score": result["total_score"], **result["sub_scores"]}
    missing = [sub for sub in SUB_SCORES if sub not in scores]
    if missing:
        raise ValueError(f"sub_scores has no {', '.join(missing)}")
    for key, value in scores.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{key} is {value}, expected 0..1")
    flags = result["flags"]
    return {
        "total_score": float(result["total_score"]),
        "sub_scores": {sub: float(scores[sub]) for sub in SUB_SCORES},
        "flags": {"hard_fail": bool(flags["hard_fail"]), "reasons": list(flags["reasons"])},
    }


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
