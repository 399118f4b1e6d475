"""The choice of a photo's warp, from what the network saw of it and from the lens of its shoot."""

from __future__ import annotations

from dataclasses import dataclass, replace

from warp_train.geometry import percent_to_px
from warp_train.inference.fallback import SafeWarp, between_px, choose_warp, unchanged
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.predictor import Sight, SmallCopy
from warp_train.inference.shoot import CommonLens, OwnSolution, solve_alone
from warp_train.models.heads_parametric import ParametricHead


@dataclass(frozen=True)
class Agreement:
    """How a photo fits the lens of its shoot."""

    common: PhotoWarp
    """The warp of the photo by the common lens."""
    expected_error_px: float
    """The mean end-point error to expect of `common`, in pixels."""
    own_lens_differs_px: float
    """The mean distance, in pixels, between the photo's own lens and the common one."""
    disagrees: bool
    """The photo was not taken through the common lens, and is corrected by its own."""


@dataclass(frozen=True)
class Look:
    """The warp that a model predicts for a photo, and the warp that is safe to apply to it."""

    height: int
    """Of the photo, in pixels, as is `width`."""
    width: int
    predicted: PhotoWarp
    chosen: SafeWarp
    shoot: Agreement | None = None
    """None for a photo without a common lens."""

    @property
    def disagrees(self) -> bool:
        """Whether the photo has a common lens, but is corrected by its own."""
        return self.shoot is not None and self.shoot.disagrees

    @property
    def expected_error_px(self) -> float | None:
        """The mean end-point error that the model expects of its prediction, in pixels."""
        percent = self.predicted.expected_error_pct
        return None if percent is None else percent_to_px(percent, self.height, self.width)


@dataclass(frozen=True)
class SeenPhoto:
    """What the choice of a photo's warp depends on. It is small enough to keep for every photo of a
    shoot until their common lens is known."""

    own: PhotoWarp
    """The prediction for this photo by itself."""
    solution: OwnSolution
    frame: SmallCopy

    @classmethod
    def of(cls, sight: Sight, head: ParametricHead) -> SeenPhoto:
        """What a sight shows, without the edges in it."""
        return cls(sight.warp, solve_alone(head, sight.observation), sight.frame)

    def look(
        self, common: CommonLens | None, head: ParametricHead, *, lens_only: bool = False
    ) -> Look:
        """The choice by the common lens, or by the photo's own if there is no common lens or if the
        two contradict each other. `lens_only` is as of `choose`."""
        height, width = self.frame.photo_size
        if common is None:
            return choose(self.own, height, width, lens_only=lens_only)
        size = self.frame.size
        error = common.expected_error(head, size)
        shared = PhotoWarp(self.frame.photo_lens(common.params(head, size)), None, error)
        disagrees = self.solution.contradicts(common)
        look = choose(self.own if disagrees else shared, height, width, lens_only=lens_only)
        apart = between_px(self.own, shared, height, width)
        error_px = percent_to_px(error, height, width)
        return replace(look, shoot=Agreement(shared, error_px, apart, disagrees))


def choose(
    predicted: PhotoWarp,
    height: int,
    width: int,
    *,
    lens_only: bool = False,
    leave_alone: str | None = None,
) -> Look:
    """The warp to apply to a photo of this size.

    Args:
        lens_only: leave out the residual, for programs that can apply a lens only.
        leave_alone: a reason to choose no warp, whatever the prediction.
    """
    if leave_alone is not None:
        chosen = unchanged(height, width, leave_alone)
    else:
        chosen = choose_warp(predicted, height, width, lens_only=lens_only)
    if lens_only:
        predicted = replace(predicted, residual=None)
    return Look(height, width, predicted, chosen)
