"""Photometric augmentation: photos as other cameras would have taken and stored them.

Positions do not change. Without it, a network that is trained on photos of one kind adapts to
their colours, sharpness and noise, and does worse on other photos.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data.drawing.finish import Sensor, record
from warp_train.photos.pixels import Image, as_image

_GREY = 0.3  # chances of each change
_BLURRED = 0.35
_NOISY = 0.35
_COMPRESSED = 0.3


class Look(NamedTuple):
    """The changes to one photo."""

    tone: NDArray[np.uint8]
    """`[1, 256, 3]`: a look-up table per channel."""
    grey: bool
    blur: float
    """Standard deviation in frame pixels, 0 … 1.2."""
    noise: float
    """Standard deviation in grey levels, 0 … 8."""
    jpeg: int | None
    """Quality, 35 … 95; None: not compressed."""


def relook(
    rng: np.random.Generator, share: float, bent: Image, straight: Image
) -> tuple[Image, Image]:
    """The pair in another look with a chance of `share`, otherwise unchanged."""
    if rng.random() >= share:
        return bent, straight
    look = draw_look(rng)
    return taken(rng, graded(bent, look), look), graded(straight, look)


def draw_look(rng: np.random.Generator) -> Look:
    """A random look: gamma, contrast, exposure and colour cast always change, the rest at times."""
    level = np.arange(256)[:, None] / 255
    curve = level ** np.exp(rng.normal(0, 0.3)) - 0.5
    curve = curve * np.exp(rng.normal(-0.1, 0.3)) + 0.5 + rng.normal(0, 0.06)
    tone = np.clip(np.rint(255 * curve * np.exp(rng.normal(0, 0.06, 3))), 0, 255)
    return Look(
        tone.astype(np.uint8)[None],
        grey=bool(rng.random() < _GREY),
        blur=float(rng.uniform(0.3, 1.2)) if rng.random() < _BLURRED else 0.0,
        noise=float(rng.uniform(1, 8)) if rng.random() < _NOISY else 0.0,
        jpeg=int(rng.integers(35, 96)) if rng.random() < _COMPRESSED else None,
    )


def graded(frame: Image, look: Look) -> Image:
    """RGB uint8 `[H, W, 3]` in another tone and colour; for both photos of a pair."""
    frame = as_image(cv2.LUT(frame, look.tone))
    if look.grey:
        frame = as_image(cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    return frame


def taken(rng: np.random.Generator, frame: Image, look: Look) -> Image:
    """RGB uint8 `[H, W, 3]`, blurred, noisy and compressed; for the network's input only."""
    if look.blur > 0:
        frame = as_image(cv2.GaussianBlur(frame, (0, 0), look.blur))
    if look.noise > 0:
        frame = record(rng, frame, Sensor(look.blur, look.noise))
    if look.jpeg is not None:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)  # imencode expects BGR
        _, stored = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        again = as_image(cv2.imdecode(stored, cv2.IMREAD_COLOR))
        frame = as_image(cv2.cvtColor(again, cv2.COLOR_BGR2RGB))
    return frame
