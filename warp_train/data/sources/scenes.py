"""`scenes`: scenes with straight lines, drawn on the fly and bent by random lenses."""

import numpy as np
from torch.utils.data import Dataset

from warp_train.data.config import DataConfig
from warp_train.data.drawing import draw_world
from warp_train.data.drawing.finish import Sensor, record, soften
from warp_train.data.lens_samplers import lens_samplers
from warp_train.data.lenses import Array, LensSampler, inverse_map
from warp_train.data.photometric import relook
from warp_train.data.samples import Sample, SampleKey, bend_pair, make_sample, reach_of
from warp_train.photos.pixels import Image

_SUPERSAMPLING = 1.5
_MARGIN = 3  # canvas pixels around all positions that are read
_SALTS = {"train": 0x5CE0, "val": 0x5CE1}


def open_source(config: DataConfig, seed: int) -> tuple["Scenes", "Scenes"]:
    """The scenes to train and to validate on. Raises WarpTrainError if no lens is available."""
    lenses, val_lenses = lens_samplers(config)
    return (
        Scenes(
            config.train_samples,
            config.size,
            lenses,
            photometric=config.photometric,
            clutter=config.clutter,
            seed=seed,
            split="train",
        ),
        Scenes(
            config.val_samples,
            config.size,
            val_lenses,
            clutter=config.clutter,
            seed=seed,
            split="val",
        ),
    )


class Scenes(Dataset[Sample]):
    """`length` drawn scenes per epoch, all different, in every epoch."""

    def __init__(
        self,
        length: int,
        size: tuple[int, int],
        lenses: LensSampler,
        *,
        photometric: float = 0.0,
        clutter: float = 0.0,
        seed: int,
        split: str,
    ) -> None:
        """`split` is `train` or `val`, which use independent random numbers."""
        self.photometric = photometric
        self.clutter = clutter
        self.length = length
        self.size = size
        self.lenses = lenses
        self.seed = seed
        self.split = split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: SampleKey) -> Sample:
        height, width = self.size
        rng = np.random.default_rng((self.seed, _SALTS[self.split], *key))
        params = self.lenses.sample(rng, height, width)
        cluttered = self.clutter >= 1 or (self.clutter > 0 and rng.random() < self.clutter)
        straight, bent = draw_pair(rng, params, height, width, cluttered=cluttered)
        if self.photometric > 0:
            bent, straight = relook(rng, self.photometric, bent, straight)
        name = f"scene-{self.split}-{key.epoch}-{key.index}"
        return make_sample(bent, straight, params, name, self.size, key.index)


def draw_pair(
    rng: np.random.Generator, params: Array, height: int, width: int, *, cluttered: bool = False
) -> tuple[Image, Image]:
    """A straight frame of a random scene, and the same frame bent by the lens `params`; both RGB
    uint8 [H, W, 3]."""
    inverse = inverse_map(params, height, width)
    left, top, right, bottom = reach_of(inverse, (height, width))
    zoom = _SUPERSAMPLING
    tall, wide = (int(extent * zoom) + 2 * _MARGIN + 1 for extent in (bottom - top, right - left))
    canvas = np.empty((tall, wide, 3), np.uint8)
    shift = (_MARGIN - left * zoom, _MARGIN - top * zoom)
    centre = ((width - 1) / 2 * zoom + shift[0], (height - 1) / 2 * zoom + shift[1])
    draw_world(
        rng, canvas, centre, float(np.hypot(width - 1, height - 1)) / 2 * zoom, cluttered=cluttered
    )
    sensor = Sensor.draw(rng, any_camera=cluttered)
    straight, bent = bend_pair(soften(canvas, sensor), inverse, zoom, shift)
    return record(rng, straight, sensor), record(rng, bent, sensor)
