"""A lens with a radial profile on top: what eight parameters leave over of a real lens.

With `v = X - c`, the vector from the lens's centre to a corrected position in half diagonals, and
`r = |v|`:

    source(X) = lens(X) + δ(r) · v / r

`δ`, in half diagonals, is linear between values at equally spaced radii from 0 to 1, and farther
out stays as it is at 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from warp_train.data.lenses import Array, Points, backward_map, half_extent

_CENTRE = 1e-9
"""Half diagonals: nearer than this to the centre, directions do not matter."""


class Profile(NamedTuple):
    """`δ`, as it was measured on some photo."""

    values: Array
    """`[n]`, in that photo's half diagonals, at radii from 0 to 1 of them."""
    unit: float = 1.0
    """Its half diagonal, in those of the frame that the profile is used in."""

    def rescaled(self, ratio: float) -> Profile:
        """For a frame whose half diagonal is `ratio` times as long (`data.frames.fit_ratio`)."""
        return self._replace(unit=self.unit / ratio)


NO_PROFILE = Profile(np.zeros(2))


def profiled_map(params: Array, profile: Profile, x: Array, y: Array) -> Points:
    """Where corrected points are read in the input; as precise as the arrays given.

    Args:
        params: the lens, in half diagonals of the frame that the points are in.
        profile: in units of that frame.
        x, y: in half diagonals of the frame, as what is returned.
    """
    read_x, read_y = backward_map(params, x, y)
    v_x, v_y = x - params[5], y - params[6]
    r = np.sqrt(v_x * v_x + v_y * v_y)
    values, unit = profile.values.astype(r.dtype), profile.unit
    outward = _linear(values * unit, r * r.dtype.type((len(values) - 1) / unit))
    outward /= np.maximum(r, r.dtype.type(_CENTRE))
    return read_x + v_x * outward, read_y + v_y * outward


def profiled_grid(params: Array, profile: Profile, height: int, width: int) -> NDArray[np.float32]:
    """The whole warp of a frame as a backward grid in grid units, float32 [H, W, 2].

    Args: see `profiled_map`.
    """
    half_x, half_y = (np.float32(half) for half in half_extent(height, width))
    x = np.linspace(-half_x, half_x, width, dtype=np.float32)[None, :]
    y = np.linspace(-half_y, half_y, height, dtype=np.float32)[:, None]
    read_x, read_y = profiled_map(params.astype(np.float32), profile, x, y)
    return np.stack((read_x / half_x, read_y / half_y), axis=-1)


def _linear(values: Array, at: Array) -> Array:
    """Between values at 0, 1, 2, …, of which the last holds farther out: `np.interp`, in a third
    of its time and in the arrays' own precision; NaN at NaN."""
    steps = np.append(np.diff(values), values.dtype.type(0))
    below = np.fmin(at, len(values) - 1).astype(np.int32)  # that of NaN is a number
    between: Array = values[below] + steps[below] * (at - below.astype(at.dtype))
    return between
