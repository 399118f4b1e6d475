"""The proxy score during validation: loaded by name, and never a reason to stop training."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from warp_train.training.protocols import ProxyResult, ProxyScorer

SUB_SCORES = ("edge", "line", "grad", "ssim", "mae")


class ProxyHook:
    """Scores validation pictures; after the first failure it warns once and stays silent."""

    def __init__(self, scorer: ProxyScorer | None, warn: Callable[[str], None]) -> None:
        self._scorer = scorer
        self._warn = warn

    def score_batch(self, pred: Tensor, target: Tensor) -> list[ProxyResult]:
        """Results of `[B, 3, H, W]` pictures in 0..1; empty once the scorer is off."""
        results: list[ProxyResult] = []
        for one, truth in zip(_to_rgb(pred), _to_rgb(target), strict=True):
            if self._scorer is None:
                return []
            try:
                results.append(_checked(self._scorer(one, truth, None)))
            except Exception as error:  # a plugged-in scorer may raise anything
                self._warn(f"proxy.scorer is switched off: it failed ({_describe(error)})")
                self._scorer = None
                return []
        return results


def load_scorer(name: str, warn: Callable[[str], None]) -> ProxyScorer | None:
    """Imports the scorer `module:function`; None and a warning if that fails.

    The working directory is importable meanwhile, as it is for `data.external`.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        scorer: ProxyScorer = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # importing runs the user's code
        warn(f"proxy.scorer {name}: cannot be imported, training goes on ({_describe(error)})")
        return None
    finally:
        sys.path.remove(here)
    return scorer


def mean_scores(results: Sequence[ProxyResult]) -> dict[str, float]:
    """Means as metrics: `proxy/total_score`, `proxy/<sub>`, `proxy/hard_fail_frac`."""
    if not results:
        return {}
    return {
        "proxy/total_score": fmean(r["total_score"] for r in results),
        **{f"proxy/{sub}": fmean(r["sub_scores"][sub] for r in results) for sub in SUB_SCORES},
        "proxy/hard_fail_frac": fmean(r["flags"]["hard_fail"] for r in results),
    }


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


def _to_rgb(images: Tensor) -> list[NDArray[np.float32]]:
    return list(images.detach().float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
