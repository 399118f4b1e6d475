"""The warp that registration fits: a free radial profile about a free centre; its nearest lens.

With `X` a corrected position from the frame's centre in half diagonals, `v = X - c`, `r = |v|`:

    source(X) = v · f(r)  +  2 (P·v) v + r² P  +  c,        f = Σ aᵢ Tᵢ(2r - 1), i = 0 … 6

with the Chebyshev polynomials `Tᵢ`. These fields include every lens of `warp_train.geometry`, whose
profile is even in `r`, and lenses of other models (PTLens, for instance, has odd powers). The
displacement that the eight parameters leave over can thus be separated from registration errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from warp_train.data.lenses import backward_map

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

DEGREE = 6
SIZE = DEGREE + 5
"""Number of unknowns: the coefficients of `f`, then `P` (x, y), then `c` (x, y)."""
_RADII = 33
PRIOR = np.array([1, 1, 0.3, 0.05, 0.02, 0.01, 0.005, 0.02, 0.02, 0.1, 0.1])
"""Standard deviations of the prior on the unknowns, whose mean is the identity. The prior fixes
what the pictures leave open: the centre of a lens without distortion, or the profile in corners
without texture."""


@dataclass(frozen=True)
class Field:
    """A backward warp in half diagonals."""

    values: Floats
    """`[11]`: see `SIZE`."""

    @property
    def profile(self) -> Floats:
        """The coefficients of `f`, `[7]`."""
        return self.values[: DEGREE + 1]

    @property
    def tangent(self) -> Floats:
        """`P`, the tangential term, `[2]`."""
        return self.values[DEGREE + 1 : DEGREE + 3]

    @property
    def centre(self) -> Floats:
        """`c`, `[2]`, in half diagonals."""
        return self.values[DEGREE + 3 :]


def plain_field(zoom: float, bend: float) -> Field:
    """The field with `f(r) = zoom · (1 + bend · r²)` about the frame's centre, and `P = 0`."""
    nodes = np.linspace(-1, 1, DEGREE + 1)
    profile = chebyshev.chebfit(nodes, zoom * (1 + bend * ((nodes + 1) / 2) ** 2), DEGREE)
    return Field(np.concatenate([profile, np.zeros(SIZE - len(profile))]))


@dataclass(frozen=True)
class Placed:
    """A field at some points: source positions and the terms of its derivatives, all `[h, w]`."""

    x: Plane
    y: Plane
    """Source positions, in half diagonals."""
    v_x: Plane
    v_y: Plane
    """`v`."""
    radius2: Plane
    """`r²`."""
    basis: list[Plane]
    """`Tᵢ(2r - 1)`."""
    stretch: Plane
    """`f`."""
    slope: Plane
    """`f' / r`."""


def place(field: Field, x: Plane, y: Plane) -> Placed:
    """The field at corrected positions `x`, `y`, in half diagonals."""
    centre, tangent = field.centre.astype(np.float32), field.tangent.astype(np.float32)
    v_x, v_y = x - centre[0], y - centre[1]
    radius2 = v_x * v_x + v_y * v_y
    radius = np.sqrt(radius2)
    basis = _chebyshev(2 * radius - 1, DEGREE)
    stretch = _combine(field.profile, basis)
    # d/dr of T(2r - 1) is 2 T'(2r - 1).
    slope = 2 * _combine(chebyshev.chebder(field.profile), basis) / np.maximum(radius, 1e-3)
    along = stretch + 2 * (tangent[0] * v_x + tangent[1] * v_y)
    return Placed(
        v_x * along + radius2 * tangent[0] + centre[0],
        v_y * along + radius2 * tangent[1] + centre[1],
        v_x,
        v_y,
        radius2,
        basis,
        stretch,
        slope,
    )


def derivatives(placed: Placed, g_x: Plane, g_y: Plane) -> list[Plane]:
    """Derivatives of a picture that is read through the field, by each of the `SIZE` unknowns.

    `g_x`, `g_y` are the picture's own derivatives at the source positions, per half diagonal. The
    tangential term contributes little to the derivatives by the centre, and is neglected there.
    """
    outward = g_x * placed.v_x + g_y * placed.v_y
    twice, bent = 2 * outward, outward * placed.slope
    still = 1 - placed.stretch
    return [
        *(outward * basis for basis in placed.basis),
        twice * placed.v_x + placed.radius2 * g_x,
        twice * placed.v_y + placed.radius2 * g_y,
        still * g_x - bent * placed.v_x,
        still * g_y - bent * placed.v_y,
    ]


def nearest_lens(field: Field, x: Floats, y: Floats) -> Floats | None:
    """The `[8]` lens parameters with the least squared distance from the field at points `x`, `y`.

    Centre and tangential term are copied from the field. Its profile is fitted by a polynomial in
    `1, r², r⁴, r⁶`, which equals `(1 + k1 u² + …)/s` with `u = r/s`. None if the fit has `s <= 0`.
    """
    radius = np.hypot(x - field.centre[0], y - field.centre[1])
    powers = radius[:, None] ** np.array([0, 2, 4, 6])
    profile = chebyshev.chebval(2 * radius - 1, field.profile)
    terms = np.linalg.lstsq(powers * radius[:, None], profile * radius, rcond=None)[0]
    if not terms[0] > 0:
        return None
    s = 1 / terms[0]
    k1, k2, k3 = terms[1:] * s ** np.array([3, 5, 7])
    p2, p1 = field.tangent * s * s
    lens: Floats = np.array([k1, k2, k3, p1, p2, *field.centre, s])
    return lens


def residual_profile(field: Field, params: Floats) -> Floats:
    """The radial displacement that the eight parameters leave over, `[33]`, at radii from 0 to 1.

    It is `δ` of `warp_train.data.profiles`, in half diagonals, positive outwards. The lens and this
    profile, interpolated linearly, equal the field to a few hundredths of the displacement.
    """
    radii = np.linspace(0, 1, _RADII)
    radial_part = params * (1, 1, 1, 0, 0, 0, 0, 1)
    read, _ = backward_map(radial_part, radii, np.zeros(_RADII))
    profile: Floats = radii * chebyshev.chebval(2 * radii - 1, field.profile) - read
    return profile


def _chebyshev(t: Plane, degree: int) -> list[Plane]:
    found: list[Plane] = [np.ones_like(t), t]
    for _ in range(degree - 1):
        found.append(2 * t * found[-1] - found[-2])
    return found


def _combine(coefficients: NDArray[np.floating[Any]], basis: list[Plane]) -> Plane:
    total = np.full_like(basis[0], coefficients[0])
    for coefficient, plane in zip(coefficients[1:], basis[1:], strict=False):
        total += np.float32(coefficient) * plane
    return total
