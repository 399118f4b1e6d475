"""What may be plugged into training: who applies the warp, and who scores the result."""

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from warp_train.runtime.errors import WarpTrainError


class _BackendExtras(TypedDict, total=False):
    final_grid: Tensor
    """`[B, H, W, 2]` backward grid; needed where a Jacobian or grid loss is on."""
    param_grid: Tensor
    """`[B, H, W, 2]`: the lens alone."""
    residual_flow_fullres_norm: Tensor
    """`[B, H, W, 2]`: the residual alone, in grid units."""


class BackendOutput(_BackendExtras):
    """What `WarpBackend.warp` returns."""

    pred_image: Tensor
    """`[B, C, H, W]`, the corrected photo."""
    warp_stats: Mapping[str, Tensor]
    """`[B]` tensors: those of `jacobian_stats`, or a selection."""


class WarpBackend(Protocol):
    """Applies a predicted warp."""

    def warp(self, image: Tensor, params: Tensor, residual_flow: Tensor | None) -> BackendOutput:
        """Corrects `image [B, C, H, W]` by `params [B, 8]` and `residual_flow [B, 2, Hr, Wr]`.

        The flow is in pixels of its own grid, and None where no residual is trained.
        """
        ...


class ProxyFlags(TypedDict):
    """Pictures that no score should gloss over."""

    hard_fail: bool
    reasons: list[str]


class ProxyResult(TypedDict):
    """All scores are 0..1, higher is better."""

    total_score: float
    sub_scores: dict[str, float]
    """`edge`, `line`, `grad`, `ssim`, `mae`."""
    flags: ProxyFlags


class ProxyScorer(Protocol):
    """Scores one prediction against its target."""

    def __call__(
        self, pred: NDArray[np.float32], gt: NDArray[np.float32], config: Mapping[str, Any] | None
    ) -> ProxyResult:
        """Both images are RGB `[H, W, 3]` in 0..1; `config` None means the scorer's own."""
        ...


def check_backend_output(out: Mapping[str, Any], *, needs_final_grid: bool) -> None:
    """Checks what a backend returned; once per run is enough.

    Raises:
        WarpTrainError: a key is missing; it is named.
    """
    needed = ["pred_image", "warp_stats", *(["final_grid"] if needs_final_grid else [])]
    missing = [key for key in needed if key not in out]
    if missing:
        why = " (a Jacobian or grid loss is on)" if missing == ["final_grid"] else ""
        raise WarpTrainError(
            f"warp.backend: its output has no {', '.join(map(repr, missing))}{why}; it has "
            f"{', '.join(sorted(out))}"
        )
