"""The lenses of pairs, to bend other photos by: the best prior that there is of one's own lenses.

New lenses are drawn between known ones: a known lens moves towards one of its nearest neighbours by
a random share of the way (N. Chawla et al., "SMOTE: synthetic minority over-sampling technique",
2002). So they vary as the known lenses do where they lie, weak ones little and strong ones more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warp_train.data.frames import mirror_lens
from warp_train.data.lenses import Array, solve_scale, usable_lens
from warp_train.runtime.errors import WarpTrainError

_NEIGHBOURS = 5
_MOST_LENSES = 1000
"""More would not make the distribution better."""
_FARTHEST = 1.0, -0.5
"""Shares of the way to a neighbour: up to it, and by half of it to the other side."""
_STRONGER = 0.1
"""Deviation of the logarithm of the factor by which a lens is made stronger or weaker."""
_DRAWS = 200
_RADIAL = slice(0, 3)
_FRAME = (320, 480)  # (height, width) in which zooms are compared
_SAME_ZOOM = 0.01


@dataclass(frozen=True)
class RecoveredLenses:
    """A distribution of lenses around known ones; a few arrays, cheap to pickle."""

    known: Array
    """[N, 8]."""
    near: Array
    """[N, k] int: the nearest other lenses of each; k may be 0."""
    zoom: float
    """The zoom `s` of the known lenses as a multiple of that which just fills the frame."""
    min_det: float
    """As in `LensConfig`."""

    def sample(self, rng: np.random.Generator, height: int, width: int) -> Array:
        """See `LensSampler`; `s` follows the convention of the known lenses."""
        for _ in range(_DRAWS):
            usable = usable_lens(self._draw(rng), height, width, self.min_det)
            if usable is not None:
                usable[-1] *= self.zoom
                return usable
        raise WarpTrainError(
            "data.lenses: practically all of these lenses fold; set a smaller data.lens.min_det"
        )

    def _draw(self, rng: np.random.Generator) -> Array:
        row = int(rng.integers(len(self.known)))
        lens: Array = self.known[row].copy()
        if self.near.shape[1]:
            other = self.known[int(rng.choice(self.near[row]))]
            lens += rng.uniform(_FARTHEST[1], _FARTHEST[0]) * (other - lens)
        lens[_RADIAL] *= np.exp(_STRONGER * rng.standard_normal())
        lens[-1] = 1.0  # solved from here
        return mirror_lens(lens) if rng.random() < 0.5 else lens


def recovered_lenses(params: Array, min_det: float) -> RecoveredLenses:
    """The distribution around known lenses.

    Args:
        params: `[N, 8]`, N >= 1, in half diagonals of their photos.
        min_det: as in `LensConfig`.
    """
    known = params[:: -(-len(params) // _MOST_LENSES)]
    shape = known[:, _RADIAL] / np.maximum(known[:, _RADIAL].std(0), 1e-6)
    apart = np.linalg.norm(shape[:, None] - shape[None], axis=-1)
    near = apart.argsort(1, kind="stable")[:, 1 : _NEIGHBOURS + 1]
    return RecoveredLenses(known, near, _usual_zoom(known), min_det)


def _usual_zoom(known: Array) -> float:
    """The median of `s` over that which just fills the frame; 1 if it is close to 1."""
    filled = [(lens[-1], solve_scale(lens, *_FRAME)) for lens in known]
    ratios = [s / lens[-1] for s, lens in filled if lens is not None]
    usual = float(np.median(ratios)) if ratios else 1.0
    return 1.0 if abs(usual - 1) < _SAME_ZOOM else usual
