"""`pairs`: distorted photos and the same ones straight, with or without the known lens.

A folder of `*_original.*` with `*_generated.*`, or a manifest with the columns `input` and
`target` (relative to it) and optionally `image_id`, `group`, `split` (train, val), and the eight
lens parameters by name. Further columns become keys of the sample: numbers where every row has
one, else text.
"""

from collections.abc import Sequence

import numpy as np
import torch

from warp_train.data.decoding import decode_pair
from warp_train.data.frames import (
    cover_sides,
    fit_image,
    fit_lens,
    fit_ratio,
    is_across,
    mirror_image,
    mirror_lens,
    turn_image,
    turn_lens,
)
from warp_train.data.photometric import relook
from warp_train.data.profiles import NO_PROFILE, profiled_grid
from warp_train.data.samples import Sample, SampleKey, make_sample
from warp_train.data.sources.files import FileSource
from warp_train.data.sources.manifest import PairItem

_SALT = 0xBA13


class Pairs(FileSource[PairItem]):
    """Photo pairs brought to `size`: turned, cropped about the centre and scaled, lens included.

    If the lens of any pair has a profile, every sample has a `target_grid`, NaN where the warp is
    unknown.
    """

    def __init__(
        self,
        items: Sequence[PairItem],
        size: tuple[int, int],
        *,
        seed: int,
        flip: bool,
        photometric: float = 0.0,
    ) -> None:
        """`flip` mirrors half of the pairs, and their lenses with them; `photometric` is the
        recipe's."""
        self.items = items
        self.size = size
        self.seed = seed
        self.flip = flip
        self.photometric = photometric
        self.has_grids = any(item.profile is not None for item in items)

    def load(self, key: SampleKey) -> Sample:
        item = self.items[key.index]
        source, target = decode_pair(item.input, item.target, *cover_sides(self.size))
        across = is_across(source.full_size, self.size)
        size = (self.size[1], self.size[0]) if across else self.size
        frames = [fit_image(photo.pixels, size, photo.extent) for photo in (source, target)]
        params = fit_lens(item.params, source.full_size, size)
        if across:
            frames, params = [turn_image(frame) for frame in frames], turn_lens(params)
        rng = np.random.default_rng((self.seed, _SALT, *key))
        if self.flip and rng.random() < 0.5:
            frames, params = [mirror_image(frame) for frame in frames], mirror_lens(params)
        orig_size = item.orig_size or source.full_size
        bent, straight = relook(rng, self.photometric, *frames)
        sample = make_sample(bent, straight, params, item.image_id, orig_size, key.index)
        if self.has_grids:
            profile = item.profile or NO_PROFILE
            in_frame = profile.rescaled(fit_ratio(source.full_size, size))
            sample["target_grid"] = torch.from_numpy(profiled_grid(params, in_frame, *self.size))
        return {**item.extra, **sample}
