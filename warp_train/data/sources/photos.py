"""`photos`: any folder of straight photos, bent on the fly by random lenses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image as Pillow

from warp_train.data.config import DataConfig
from warp_train.data.decoding import BadSample, decode_image
from warp_train.data.frames import is_across, mirror_image, turn_image
from warp_train.data.lens_samplers import lens_samplers
from warp_train.data.lenses import LensSampler, Points, inverse_map
from warp_train.data.local_warp import before_the_lens, draw_local_warp, local_grid
from warp_train.data.photometric import relook
from warp_train.data.samples import Sample, SampleKey, bend_pair, make_sample, reach_of
from warp_train.data.shards.layout import is_cache
from warp_train.data.shards.mirror import local_root
from warp_train.data.shards.reading import cached_photos
from warp_train.data.sources.files import (
    FileSource,
    Item,
    at_most,
    check_disjoint,
    list_images,
    split_items,
)
from warp_train.data.splits import group_of, id_of
from warp_train.photos.pixels import Image, as_image

_SALTS = {"train": 0xF070, "val": 0xF071}
_MARGIN = 2.0  # frame pixels around all positions that are read
_LEAST_SCALE = 0.5  # photo pixels per frame pixel: with fewer, a photo is too small
_SUPERSAMPLING = 1.5
_TIGHTEST_CROP = 0.7  # smallest crop, relative to the largest possible


def find_photos(root: Path, key: str) -> list[Item]:
    """Every photo under `root` except the distorted photos of pairs (`*_original.*`)."""
    items = []
    paths = list_images(root, key)
    straight = {str(path.with_suffix("")) for path in paths if path.stem.endswith("_generated")}
    for path in paths:
        stem = str(path.with_suffix(""))
        if stem.endswith("_original") and stem.removesuffix("original") + "generated" in straight:
            continue
        image_id = id_of(path.relative_to(root).with_suffix("").as_posix())
        items.append(Item(image_id, group_of(image_id), path))
    return items


def open_source(config: DataConfig, seed: int) -> tuple["Photos", "Photos"]:
    """The photos to train and to validate on.

    Raises:
        WarpTrainError: a folder is missing or empty, or a group is in both training and validation.
    """
    root = local_root(config)
    if is_cache(root):
        train, val = cached_photos(root, config)
    elif config.val_root is None:
        found = find_photos(root, "data.root")
        train, val = split_items(found, config.val_fraction, f"data.root: {root}")
    else:
        train = find_photos(root, "data.root")
        val = find_photos(config.val_root, "data.val_root")
        check_disjoint(train, val)
    kept = at_most(val, config.val_samples)
    lenses, val_lenses = lens_samplers(config)
    same: dict[str, Any] = {"seed": seed, "local_warp": config.local_warp}
    return (
        Photos(
            train,
            config.size,
            lenses,
            split="train",
            flip=config.flip,
            photometric=config.photometric,
            **same,
        ),
        Photos(kept, config.size, val_lenses, split="val", flip=False, **same),
    )


class Photos(FileSource[Item]):
    """Straight photos, each bent by a new random lens in every epoch."""

    def __init__(
        self,
        items: Sequence[Item],
        size: tuple[int, int],
        lenses: LensSampler,
        *,
        seed: int,
        split: str,
        flip: bool,
        photometric: float = 0.0,
        local_warp: float = 0.0,
    ) -> None:
        """`flip`, `photometric` and `local_warp` as in `DataConfig`; `split` is `train` or `val`,
        which use independent random numbers."""
        self.items = items
        self.size = size
        self.lenses = lenses
        self.seed = seed
        self.split = split
        self.flip = flip
        self.photometric = photometric
        self.local_warp = local_warp

    def load(self, key: SampleKey) -> Sample:
        item = self.items[key.index]
        rng = np.random.default_rng((self.seed, _SALTS[self.split], *key))
        params = self.lenses.sample(rng, *self.size)
        photo = decode_image(item.target, enough=2 * max(self.size))
        pixels = photo.pixels
        if is_across(pixels.shape, self.size):
            pixels = turn_image(pixels)
        if self.flip and rng.random() < 0.5:
            pixels = mirror_image(pixels)
        inverse, delta = inverse_map(params, *self.size), None
        if self.local_warp > 0:
            delta = draw_local_warp(rng, self.local_warp, *self.size)
            inverse = before_the_lens(inverse, delta)
        crop = choose_crop(rng, pixels, inverse, self.size)
        if crop is None:
            height, width = photo.full_size
            needed = f"data.size {list(self.size)} needs about half as many per side, or more"
            raise BadSample(item.target, f"{width}x{height} px is too small: {needed}")
        straight, bent = render(pixels, crop, inverse, self.size)
        bent, straight = relook(rng, self.photometric, bent, straight)
        orig_size = item.orig_size or photo.full_size
        sample = make_sample(bent, straight, params, item.image_id, orig_size, key.index)
        if delta is None:
            return sample
        grid = torch.from_numpy(local_grid(params, delta, *self.size))
        unknown = torch.full_like(sample["target_params"], torch.nan)
        return {**sample, "target_grid": grid, "target_params": unknown}


class CropBox(NamedTuple):
    """The frame's pixel (x, y) is at `(x, y) · scale + (left, top)` in the photo.

    Positions are in photo pixels. As in Pillow, the photo's outer edges are at 0 and W.
    """

    scale: float
    left: float
    top: float


def choose_crop(
    rng: np.random.Generator, photo: Image, inverse: Points, size: tuple[int, int]
) -> CropBox | None:
    """A random crop that contains all positions that the straight and the bent frame are read at;
    None if the photo is too small."""
    left, top, right, bottom = reach_of(inverse, size)
    wide, tall = right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN
    height, width = photo.shape[:2]
    largest = min(width / wide, height / tall)
    if largest < _LEAST_SCALE:
        return None
    scale = max(rng.uniform(_TIGHTEST_CROP, 1) * largest, min(largest, 1.0))
    x0 = rng.uniform(0, 1) * max(0.0, width - wide * scale)
    y0 = rng.uniform(0, 1) * max(0.0, height - tall * scale)
    return CropBox(scale, x0 + (_MARGIN - left) * scale, y0 + (_MARGIN - top) * scale)


def render(
    photo: Image, crop: CropBox, inverse: Points, size: tuple[int, int]
) -> tuple[Image, Image]:
    """The straight and the bent frame, both read from the photo with the same filter."""
    if crop.scale <= _SUPERSAMPLING:
        canvas = np.ascontiguousarray(photo)
        if crop.scale > 1:
            canvas = as_image(cv2.GaussianBlur(canvas, (3, 3), 0.5 * crop.scale))
        return bend_pair(canvas, inverse, crop.scale, (crop.left - 0.5, crop.top - 0.5))
    left, top, right, bottom = reach_of(inverse, size)
    zoom, step = _SUPERSAMPLING, crop.scale / _SUPERSAMPLING
    x0, y0 = crop.left + (left - _MARGIN) * crop.scale, crop.top + (top - _MARGIN) * crop.scale
    wide, tall = int((right - left + 2 * _MARGIN) * zoom), int((bottom - top + 2 * _MARGIN) * zoom)
    height, width = photo.shape[:2]
    box = (max(x0, 0.0), max(y0, 0.0), min(x0 + wide * step, width), min(y0 + tall * step, height))
    picture = Pillow.fromarray(np.ascontiguousarray(photo))
    small = picture.resize((wide, tall), Pillow.Resampling.HAMMING, box=box)
    canvas = as_image(cv2.GaussianBlur(np.asarray(small), (3, 3), 0.5 * zoom))
    shift = ((_MARGIN - left) * zoom - 0.5, (_MARGIN - top) * zoom - 0.5)
    return bend_pair(canvas, inverse, zoom, shift)
