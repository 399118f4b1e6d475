"""Effects that make drawn scenes look like photos: light, shadows, texture, tone, focus, noise."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from warp_train.data.drawing.patterns import Rng
from warp_train.data.drawing.surfaces import Pen
from warp_train.photos.pixels import Image, as_image

_SHIFT = 4
_NOISE_TILE = 512
_SHARPENED = 0.4
"""Share of the cameras that sharpen."""
_UNEVENNESS = 0.0003, 0.003
"""Standard deviations of how far things are off a straight line, in half diagonals."""
_UNIT_NOISE = 32  # standard deviation of the noise tile, in grey levels


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


def texture(rng: Rng, pen: Pen) -> None:
    """Plaster, fabric, dirt, bark: brightness that varies at all scales, everywhere or in part."""
    height, width = pen.canvas.shape[:2]
    noise, roughness = _noise_tile()[..., 0], rng.uniform(0.4, 1.0)
    gain = np.zeros((height // 2, width // 2), np.float32)  # finer than that is the sensor's noise
    for octave in range(2, 8):
        cells = 2**octave
        tall = min(max(2, cells * height // width), _NOISE_TILE - 1)
        top, left = rng.integers(_NOISE_TILE - np.array([tall, cells]))
        coarse = noise[top : top + tall, left : left + cells].astype(np.float32)
        grown = cv2.resize(coarse, gain.shape[::-1], interpolation=cv2.INTER_LINEAR)
        cv2.accumulateWeighted(grown, gain, 1 - roughness)
    mean, deviation = cv2.meanStdDev(gain)
    gain -= float(mean[0, 0])
    scale = 128 * rng.uniform(0.02, 0.16) / max(float(deviation[0, 0]), 1e-6)
    grey = cv2.convertScaleAbs(gain, alpha=scale, beta=128)
    rough = cv2.cvtColor(cv2.resize(grey, (width, height)), cv2.COLOR_GRAY2RGB)
    cv2.multiply(pen.canvas, rough, dst=pen.canvas, scale=1 / 128)


def defocus(rng: Rng, pen: Pen) -> None:
    """Blurs a half of the canvas, with a soft border: a background or a foreground out of focus."""
    height, width = pen.canvas.shape[:2]
    soft = cv2.GaussianBlur(pen.canvas, (0, 0), float(rng.uniform(1.5, 3)))
    turn, at = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    ramp = np.clip((np.cos(turn) * x + np.sin(turn) * y - at) * 4, 0, 1).astype(np.float32)
    pen.canvas[:] = cv2.blendLinear(soft, pen.canvas, ramp, 1 - ramp)


def uneven(rng: Rng, pen: Pen) -> None:
    """Bends the canvas a little: walls, boards and frames of the world are not exactly straight."""
    height, width = pen.canvas.shape[:2]
    size = pen.scale * np.exp(rng.uniform(*np.log(_UNEVENNESS)))
    nodes = (int(rng.integers(3, 8)), int(rng.integers(4, 11)), 2)
    coarse = rng.normal(0, size, nodes).astype(np.float32)
    x, y = cv2.split(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    pen.canvas[:] = cv2.remap(pen.canvas, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
    """The blur, the noise and the halos of a camera, the same for all frames of one scene."""

    blur: float
    """Standard deviation in canvas pixels."""
    noise: float
    """Standard deviation in grey levels."""
    halo: float = 0.0
    """How much a camera's sharpening adds to edges, 0 … 1.5."""

    @classmethod
    def draw(cls, rng: Rng, *, any_camera: bool) -> "Sensor":
        """A good camera, or any: sharpened ones and soft ones too."""
        if not any_camera:
            return cls(float(rng.uniform(0.5, 1.4)), float(rng.gamma(1.5, 1.5)))
        halo = float(rng.uniform(0.3, 1.5)) if rng.random() < _SHARPENED else 0.0
        return cls(float(rng.uniform(0.5, 2.2)), float(rng.gamma(1.5, 1.5)), halo)


def soften(canvas: Image, sensor: Sensor) -> Image:
    """The canvas with the camera's blur, before frames are sampled from it."""
    size = 3 if sensor.blur < 0.9 else 5 if sensor.blur < 1.5 else 7
    return as_image(cv2.GaussianBlur(canvas, (size, size), sensor.blur))


def record(rng: Rng, frame: Image, sensor: Sensor) -> Image:
    """The frame with the sensor's halos and noise; noise differs between calls."""
    height, width = frame.shape[:2]
    if sensor.halo > 0:
        soft = cv2.GaussianBlur(frame, (5, 5), 1.0)
        frame = as_image(cv2.addWeighted(frame, 1 + sensor.halo, soft, -sensor.halo, 0))
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
