"""Effects that make drawn scenes look like photos: clutter, light, shadows, tone, blur, noise."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data.drawing.patterns import Rng, colour
from warp_train.data.drawing.surfaces import Pen
from warp_train.photos.pixels import Image, as_image

_SHIFT = 4
_NOISE_TILE = 512
_UNIT_NOISE = 32  # standard deviation of the noise tile, in grey levels


def clutter(rng: Rng, pen: Pen) -> None:
    """Draws a few objects with curved outlines, since photos also contain curved edges."""
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(-1, 1, 2) * pen.scale + pen.centre
        paint = tuple(map(float, colour(rng)))
        radius = pen.scale * rng.uniform(0.02, 0.22)
        if rng.random() < 0.6:
            _blob(rng, pen, (x, y), radius, paint)
        else:
            _cable(rng, pen, (x, y), radius * 3, paint)


def _blob(
    rng: Rng, pen: Pen, at: tuple[float, float], radius: float, paint: tuple[float, ...]
) -> None:
    """An ellipse, or a lumpy outline: a lamp, a plant, a person."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    lumps = 1 + rng.choice([0.0, 0.2]) * np.sin(angle * rng.integers(2, 6) + rng.uniform(0, 6))
    turn, flat = rng.uniform(0, np.pi), rng.uniform(0.35, 1)
    x, y = np.cos(angle) * lumps * radius, np.sin(angle) * lumps * radius * flat
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    outline = np.rint((points + at) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(pen.canvas, [outline], paint, cv2.LINE_AA, _SHIFT)


def _cable(
    rng: Rng, pen: Pen, at: tuple[float, float], length: float, paint: tuple[float, ...]
) -> None:
    """A wandering line: a cable, a branch, a crack."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 24))
    steps = np.stack([np.cos(heading), np.sin(heading)], 1) * (length / 24)
    points = np.rint((np.cumsum(steps, 0) + at) * (1 << _SHIFT)).astype(np.int32)
    thickness = int(rng.integers(1, 4))
    cv2.polylines(pen.canvas, [points], False, paint, thickness, cv2.LINE_AA, _SHIFT)


def light(rng: Rng, pen: Pen) -> None:
    """Applies uneven coloured light, shadow edges, vignetting and a tone curve to the canvas."""
    canvas = pen.canvas
    height, width = canvas.shape[:2]
    field = rng.normal(0, rng.uniform(0.02, 0.13), (4, 6, 1)) + rng.normal(0, 0.02, (4, 6, 3))
    y, x = np.mgrid[-1:1:4j, -1:1:6j]
    slope = rng.normal(0, 0.15, 2)
    vignette = rng.uniform(0, 0.15) * (x**2 + y**2)
    gain = 1 + field + (slope[0] * x + slope[1] * y - vignette)[..., None]
    coarse = np.clip(gain * 128, 50, 255).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 3)):
        _shadow(rng, pen, smooth)
    cv2.multiply(canvas, smooth, dst=canvas, scale=1 / 128)
    cv2.LUT(canvas, _tone(rng), dst=canvas)


def _shadow(rng: Rng, pen: Pen, gain: Image) -> None:
    """Darkens a convex patch of the gain map."""
    centre = rng.uniform(-1, 1, 2) * pen.scale + pen.centre
    angle = np.sort(rng.uniform(0, 2 * np.pi, 4))
    reach = pen.scale * rng.uniform(0.3, 1.2, 4)
    corners = np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None] + centre
    outline = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
    depth = float(rng.uniform(60, 115))
    cv2.fillPoly(gain, [outline], (depth,) * 3, cv2.LINE_AA, _SHIFT)


def _tone(rng: Rng) -> Image:
    """A look-up table [256] with random contrast, brightness and gamma."""
    level = np.arange(256) / 255
    contrast, gamma = rng.uniform(0.55, 1.3), np.exp(rng.normal(0, 0.2))
    curve = 0.5 + contrast * (level**gamma - 0.5) + rng.normal(0, 0.06)
    return as_image(np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8))


class Sensor(NamedTuple):
    """The blur and the noise of a camera, which are the same for all frames of one scene."""

    blur: float
    """Standard deviation in canvas pixels."""
    noise: float
    """Standard deviation in grey levels."""

    @classmethod
    def draw(cls, rng: Rng) -> "Sensor":
        return cls(float(rng.uniform(0.5, 1.4)), float(rng.gamma(1.5, 1.5)))


def soften(canvas: Image, sensor: Sensor) -> Image:
    """The canvas with the camera's blur, before frames are sampled from it."""
    size = 3 if sensor.blur < 0.9 else 5
    return as_image(cv2.GaussianBlur(canvas, (size, size), sensor.blur))


def add_noise(rng: Rng, frame: Image, sensor: Sensor) -> Image:
    """The frame with the sensor's noise, which differs between calls."""
    height, width = frame.shape[:2]
    tile = _noise_tile()
    if height > _NOISE_TILE or width > _NOISE_TILE:
        tile = np.tile(tile, (height // _NOISE_TILE + 2, width // _NOISE_TILE + 2, 1))
    top, left = rng.integers(tile.shape[0] - height + 1), rng.integers(tile.shape[1] - width + 1)
    grain = tile[top : top + height, left : left + width]
    strength = sensor.noise / _UNIT_NOISE
    return as_image(cv2.addWeighted(frame, 1.0, grain, strength, -128 * strength))


@lru_cache(maxsize=1)
def _noise_tile() -> NDArray[np.uint8]:
    """Gaussian noise around 128, drawn once: a crop of it is much faster than new noise."""
    noise = np.random.default_rng(0).normal(128, _UNIT_NOISE, (_NOISE_TILE, _NOISE_TILE, 3))
    return np.clip(np.rint(noise), 0, 255).astype(np.uint8)
