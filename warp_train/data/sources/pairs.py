"""`pairs`: distorted photos and straight copies of them, with a known or an unknown lens.

The pairs are `*_original.*` and `*_generated.*` files of a folder, or the rows of a manifest. A
manifest has the columns `input` and `target` (paths relative to it) and optionally `image_id`,
`group`, `split` (train, val) and the eight lens parameters by name. Further columns become keys of
the sample: numbers if every row has a number, otherwise text.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from warp_train.data.config import DataConfig
from warp_train.data.decoding import BadSample, decode_pair
from warp_train.data.frames import (
    cover_sides,
    is_across,
    mirror_image,
    mirror_lens,
    turn_image,
    turn_lens,
)
from warp_train.data.lens_samplers import lens_samplers
from warp_train.data.pair_frames import pair_frames
from warp_train.data.photometric import relook
from warp_train.data.profiles import NO_PROFILE, profiled_grid
from warp_train.data.samples import Sample, SampleKey, make_sample
from warp_train.data.shards.layout import is_cache
from warp_train.data.shards.mirror import local_root
from warp_train.data.shards.reading import cached_pairs
from warp_train.data.sources.files import FileSource, at_most, check_disjoint, split_items
from warp_train.data.sources.manifest import PairItem, find_pairs
from warp_train.data.sources.photos import Photos
from warp_train.data.sources.warps import with_warps
from warp_train.runtime.errors import WarpTrainError

_SALT = 0xBA13


def open_source(config: DataConfig, seed: int) -> tuple["Pairs", "Pairs"]:
    """The pairs to train and to validate on.

    Raises:
        WarpTrainError: a folder is missing or empty, a manifest lacks a column or a file, a group
            is in both training and validation, or a line of `data.warps` is wrong.
    """
    root = local_root(config)
    train, val = cached_pairs(root, config) if is_cache(root) else _found_pairs(config, root)
    return (
        Pairs(train, config, seed=seed, split="train"),
        Pairs(at_most(val, config.val_samples), config, seed=seed, split="val"),
    )


class Pairs(FileSource[PairItem]):
    """Photo pairs and their lenses at `size`: rotated if the orientation differs, cropped about the
    centre and scaled (`pair_frames`). In training, a share of their straight photos is bent again.

    If any pair has a profile, every sample has a `target_grid`, NaN where the warp is unknown.
    """

    def __init__(
        self,
        items: Sequence[PairItem],
        config: DataConfig,
        *,
        seed: int,
        split: Literal["train", "val"],
    ) -> None:
        """Samples of the split `val` are neither mirrored nor changed in their look nor bent again.

        Raises:
            WarpTrainError: see `lens_samplers`.
        """
        self.items = items
        self.config = config
        self.seed = seed
        self.split = split
        self.size = config.size
        self.flip = config.flip and split == "train"
        self.photometric = config.photometric if split == "train" else 0.0
        self.has_grids = any(item.profile is not None for item in items)
        self._bent_again = self._photos()

    def of(self, items: Sequence[PairItem]) -> "Pairs":
        """The same with other items."""
        return Pairs(items, self.config, seed=self.seed, split=self.split)

    @property
    def warps_known(self) -> bool:
        """Whether the warp of every pair is known."""
        return all(item.warp_known for item in self.items)

    def _photos(self) -> Photos | None:
        """The straight photos to bend; None where that is not asked for, or no lens is known."""
        known = [item.params for item in self.items if item.warp_known]
        without = self.config.lenses == "pairs" and not known
        if self.split == "val" or self.config.rebend == 0 or without:
            return None
        lenses, _ = lens_samplers(self.config, known)
        look: Any = {"flip": self.flip, "photometric": self.photometric}
        return Photos(self.items, self.size, lenses, split="train", seed=self.seed, **look)

    def load(self, key: SampleKey) -> Sample:
        item = self.items[key.index]
        rng = np.random.default_rng((self.seed, _SALT, *key))
        if self._bent_again is not None and rng.random() < self.config.rebend:
            with suppress(BadSample):  # too small for a lens to read; the pair itself may do
                return {**item.extra, **self._rebent(self._bent_again.load(key))}
        source, target = decode_pair(item.input, item.target, *cover_sides(self.size))
        across = is_across(source.full_size, self.size)
        upright = (self.size[1], self.size[0]) if across else self.size
        cut = pair_frames(source, target, item.params, item.profile, upright)
        frames, params = [cut.source, cut.target], cut.params
        if across:
            frames, params = [turn_image(frame) for frame in frames], turn_lens(params)
        if self.flip and rng.random() < 0.5:
            frames, params = [mirror_image(frame) for frame in frames], mirror_lens(params)
        orig_size = item.orig_size or source.full_size
        bent, straight = relook(rng, self.photometric, *frames)
        sample = make_sample(bent, straight, params, item.image_id, orig_size, key.index)
        if self.has_grids:
            grid = profiled_grid(params, cut.profile or NO_PROFILE, *self.size)
            sample["target_grid"] = torch.from_numpy(grid)
        return {**item.extra, **sample}

    def _rebent(self, sample: Sample) -> Sample:
        """With the keys of all samples."""
        if self.has_grids:
            lens = sample["target_params"].numpy().astype(np.float64)
            sample["target_grid"] = torch.from_numpy(profiled_grid(lens, NO_PROFILE, *self.size))
        return sample


def _found_pairs(config: DataConfig, root: Path) -> tuple[list[PairItem], list[PairItem]]:
    found = find_pairs(root, "data.root")
    if config.val_root is not None:
        train, val = found, find_pairs(config.val_root, "data.val_root")
    elif any(item.split for item in found):
        train, val = _stated_split(found, root)
    else:
        train, val = split_items(found, config.val_fraction, f"data.root: {root}")
    check_disjoint(train, val)
    if config.warps is not None:
        train, val = with_warps(train, val, config.warps)
    return train, val


def _stated_split(found: list[PairItem], root: Path) -> tuple[list[PairItem], list[PairItem]]:
    """The split given by the manifest's column `split`; empty cells count as `train`."""
    train = [item for item in found if item.split != "val"]
    val = [item for item in found if item.split == "val"]
    for name, items in (("train", train), ("val", val)):
        if not items:
            raise WarpTrainError(f"data.root: {root}: no row has '{name}' in the column 'split'")
    return train, val
