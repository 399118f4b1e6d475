"""Any photo file to upright RGB, or a reason why not."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from warp_train.data.samples import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
LEAST_SIDE = 16


class BadSample(Exception):  # noqa: N818  # a file's state, which training survives
    """A file that cannot be used, and why; `str()` is "path: reason"."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Photo(NamedTuple):
    pixels: Image
    """RGB, upright."""
    full_size: tuple[int, int]
    """(height, width) upright and before any reduction while decoding."""


def decode_image(path: Path, enough: int | None = None) -> Photo:
    """Reads an image as upright uint8 RGB [H, W, 3].

    Honours the EXIF orientation; grey, palette and CMYK become RGB, 16 bits become 8, and alpha is
    laid over white. With `enough`, a JPEG may come back reduced 2, 4 or 8 times (which makes
    decoding that much faster) as long as its short side keeps `enough` pixels.
    Raises BadSample for what is missing, truncated, no image, implausibly large or under 16 px.
    """
    if path.exists() and not path.is_file():
        raise BadSample(path, "not a regular file")  # a pipe would be waited for
    try:
        with warnings.catch_warnings():
            # Large photos are welcome; Pillow still refuses what only a bomb would be.
            warnings.simplefilter("ignore")
            with Pillow.open(path) as file:
                return _read(path, file, enough)
    except BadSample:
        raise
    except Exception as error:  # decoders raise anything, from struct.error to SyntaxError
        reason = str(error).replace(str(path), "file").splitlines() or [""]
        raise BadSample(path, f"{type(error).__name__}: {reason[0]}") from error


def _read(path: Path, file: Pillow.Image, enough: int | None) -> Photo:
    width, height = file.size
    if min(width, height) < LEAST_SIDE:
        raise BadSample(path, f"{width}x{height} px; at least {LEAST_SIDE} a side are needed")
    if enough is not None:
        file.draft("RGB", (enough, enough))
    upright = ImageOps.exif_transpose(file)
    turned = file.getexif().get(0x0112, 1) >= 5
    return Photo(_to_rgb(upright), (width, height) if turned else (height, width))


def _to_rgb(image: Pillow.Image) -> Image:
    if image.mode.startswith("I"):  # 16 bits of grey, also where Pillow holds them in 32
        grey = np.clip(np.asarray(image, np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        grey = np.clip(np.nan_to_num(np.asarray(image)) * 255, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        image = Pillow.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))
