"""A radial profile on top of a lens: the radial displacement that the eight parameters leave over.

With `v = X - c`, the vector from the lens's centre to a corrected position in half diagonals, and
`r = |v|`:

    source(X) = lens(X) + δ(r) · v / r

`δ`, in half diagonals, is interpolated linearly between values at equally spaced radii from 0 to 1.
Beyond 1 it is constant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from warp_train.data.lenses import Array, Points, backward_map, half_extent

_CENTRE = 1e-9
"""Smallest divisor, in half diagonals: avoids division by zero at the lens's centre."""


class Profile(NamedTuple):
    """`δ`, as measured on a photo."""

    values: Array
    """`[n]`: `δ` at equally spaced radii from 0 to 1, both in half diagonals of that photo."""
    unit: float = 1.0
    """The half diagonal of that photo, in half diagonals of the frame that the profile is used
    in."""

    def rescaled(self, ratio: float) -> Profile:
        """The profile for a frame whose half diagonal is `ratio` times as long.

        `data.frames.fit_ratio` gives the `ratio` of a training frame.
        """
        return self._replace(unit=self.unit / ratio)


NO_PROFILE = Profile(np.zeros(2))


def profiled_map(params: Array, profile: Profile, x: Array, y: Array) -> Points:
    """Position in the input at which each corrected point is read, in the precision of `x`, `y`.

    Args:
        params: `[8]`: the lens, in half diagonals of the frame that contains the points.
        profile: the profile, rescaled for that frame.
        x, y: corrected points, in half diagonals of the frame; so are the positions returned.
    """
    read_x, read_y = backward_map(params, x, y)
    v_x, v_y = x - params[5], y - params[6]
    r = np.sqrt(v_x * v_x + v_y * v_y)
    values, unit = profile.values.astype(r.dtype), profile.unit
    outward = _linear(values * unit, r * r.dtype.type((len(values) - 1) / unit))
    outward /= np.maximum(r, r.dtype.type(_CENTRE))
    return read_x + v_x * outward, read_y + v_y * outward


def profiled_grid(params: Array, profile: Profile, height: int, width: int) -> NDArray[np.float32]:
    """The complete warp of a frame as a backward grid in grid units, float32 [H, W, 2].

    Args:
        params, profile: see `profiled_map`.
        height, width: size of the frame in pixels.
    """
    half_x, half_y = (np.float32(half) for half in half_extent(height, width))
    x = np.linspace(-half_x, half_x, width, dtype=np.float32)[None, :]
    y = np.linspace(-half_y, half_y, height, dtype=np.float32)[:, None]
    read_x, read_y = profiled_map(params.astype(np.float32), profile, x, y)
    return np.stack((read_x / half_x, read_y / half_y), axis=-1)


def _linear(values: Array, at: Array) -> Array:
    """Linear interpolation between `values` at 0, 1, 2, …; beyond the last, it is constant.

    Takes a third of `np.interp`'s time and keeps the arrays' precision. NaN where `at` is NaN.
    """
    steps = np.append(np.diff(values), values.dtype.type(0))
    below = np.fmin(at, len(values) - 1).astype(np.int32)  # for NaN, fmin returns the other operand
    between: Array = values[below] + steps[below] * (at - below.astype(at.dtype))
    return between
