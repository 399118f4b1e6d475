"""The two photos of a pair as training frames, with the lens between the frames.

A corrected photo has a zoom that follows from its frame: mostly the one at which the distorted
photo just covers it. A frame of another aspect has another such zoom, and nothing in the crop shows
what the photo's was. So the two photos are cropped to frames of different sizes, in the ratio of
the two zooms: between the frames, too, the zoom is the one that follows from the frame.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from warp_train.data.decoding import Box, Photo
from warp_train.data.frames import fit_image, fit_ratio, lens_in_frame
from warp_train.data.lenses import Array, solve_scale
from warp_train.data.profiles import Profile
from warp_train.photos.pixels import Image

_SAME_ZOOM = 1e-3  # relative: below, the crops are equal
_MOST_ZOOM = 1.25  # between the crops; beyond, the lens is no lens of an ordinary pair
_STEPS = 4


class Crops(NamedTuple):
    """Sides of the centred crops of a pair, as shares of the largest crop of their aspect."""

    source: float = 1.0
    """Of the distorted photo."""
    target: float = 1.0
    """Of the corrected photo; it or `source` is 1."""

    @property
    def zoom(self) -> float:
        """Of the target relative to the source: above 1, the target shows less."""
        return self.source / self.target


class PairFrames(NamedTuple):
    """A pair at the training size."""

    source: Image
    target: Image
    params: Array
    """`[8]`: the lens between the frames; NaN if it is unknown."""
    profile: Profile | None


def pair_frames(
    source: Photo, target: Photo, params: Array, profile: Profile | None, size: tuple[int, int]
) -> PairFrames:
    """Crops both photos about the centre and scales them to `size`.

    Args:
        source, target: the distorted and the corrected photo, of one size.
        params, profile: the lens between them in the photos' units; NaN, None if it is unknown.
        size: (height, width) of the frames, across as the photos are.
    """
    crops = crops_of(tuple(params.tolist()), source.full_size, size)
    ratio = fit_ratio(source.full_size, size)
    lens = lens_in_frame(params, source.full_size, size, crops.source)
    lens[-1] *= crops.zoom
    if profile is not None:
        in_target = profile.rescaled(ratio * crops.target)
        profile = in_target._replace(values=in_target.values / crops.zoom)
    return PairFrames(
        fit_image(source.pixels, size, _part(source.extent, crops.source)),
        fit_image(target.pixels, size, _part(target.extent, crops.target)),
        lens,
        profile,
    )


@lru_cache(maxsize=8192)
def crops_of(params: tuple[float, ...], shape: tuple[int, int], size: tuple[int, int]) -> Crops:
    """The crops at which the zoom between the frames is to that which just fills the frame as it is
    between the photos.

    Args:
        params: the lens between photos of `shape`, in their units; NaN: both crops are the largest.
        shape, size: (height, width) of the photos and of the frames.
    """
    lens = np.array(params)
    fills = solve_scale(lens, *shape) if np.isfinite(lens).all() else None
    if fills is None:
        return Crops()
    share = 1.0
    for _ in range(_STEPS):
        in_frame = solve_scale(lens_in_frame(lens, shape, size, share), *size)
        if in_frame is None:
            return Crops()
        zoom = float(in_frame[-1] / fills[-1])
        if abs(zoom - 1) < _SAME_ZOOM or not 1 / _MOST_ZOOM < zoom < _MOST_ZOOM:
            return Crops()
        if zoom > 1:
            return Crops(target=1 / zoom)
        share = zoom
    return Crops(source=share)


def _part(extent: Box, share: float) -> Box:
    """The middle of a box."""
    if share == 1:
        return extent
    left, top, right, bottom = extent
    spare_x, spare_y = (1 - share) * (right - left) / 2, (1 - share) * (bottom - top) / 2
    return left + spare_x, top + spare_y, right - spare_x, bottom - spare_y
