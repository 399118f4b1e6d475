"""What a shard holds of a photo or a pair: little enough to be read quickly, and nothing less."""

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow

from warp_train.data.decoding import Photo, decode_image, decode_pair
from warp_train.data.frames import cover_sides, fit_image, fit_lens, fit_ratio, is_across
from warp_train.data.sources.files import Item
from warp_train.data.sources.manifest import PairItem
from warp_train.photos.pixels import Image

_AS_THEY_ARE = (".jpg", ".jpeg", ".png")  # what every reader of WebDataset's tars can decode
_QUALITY = 95


class Encoded(NamedTuple):
    """A sample in a shard."""

    files: dict[str, bytes]
    """By what follows the key in their names, such as `target.jpg`."""
    about: dict[str, Any]
    """`image_id`, `group`, `orig_size`, and of a pair `params` (None: unknown), `extra`, and
    perhaps `profile` (its values and its unit)."""


def encode(item: Item, size: tuple[int, int]) -> Encoded:
    """The item for frames of up to `size`. Raises BadSample for what cannot be read."""
    return _pair(item, size) if isinstance(item, PairItem) else _photo(item, size)


def _pair(item: PairItem, size: tuple[int, int]) -> Encoded:
    """Both photos as frames, not turned and without loss: a training run gets the same pixels."""
    source, target = decode_pair(item.input, item.target, *cover_sides(size))
    upright = size[::-1] if is_across(source.full_size, size) else size
    params = fit_lens(item.params, source.full_size, upright)
    bent, straight = (fit_image(p.pixels, upright, p.extent) for p in (source, target))
    files = {"input.ppm": _written(bent, "PPM"), "target.ppm": _written(straight, "PPM")}
    known = None if np.isnan(params).any() else params.tolist()
    about = {**_about(item, source), "params": known, "extra": dict(item.extra)}
    if item.profile is not None:
        values, unit = item.profile.rescaled(fit_ratio(source.full_size, upright))
        about["profile"] = [values.tolist(), unit]
    return Encoded(files, about)


def _photo(item: Item, size: tuple[int, int]) -> Encoded:
    """The file itself where it is small; else the photo reduced to what frames are cropped from."""
    photo = decode_image(item.target, *cover_sides(size))
    suffix = item.target.suffix.lower()
    short, long = cover_sides(size)
    height, width = photo.full_size
    scale = max(short / min(height, width), long / max(height, width))
    if scale >= 1 and suffix in _AS_THEY_ARE:
        return Encoded({f"target{suffix}": item.target.read_bytes()}, _about(item, photo))
    if scale >= 1:
        return Encoded({"target.ppm": _written(photo.pixels, "PPM")}, _about(item, photo))
    small = Pillow.fromarray(photo.pixels).resize(
        (round(width * scale), round(height * scale)), Pillow.Resampling.HAMMING, box=photo.extent
    )
    options = {"quality": _QUALITY, "subsampling": 0}
    return Encoded(
        {"target.jpg": _written(np.asarray(small), "JPEG", **options)}, _about(item, photo)
    )


def _about(item: Item, photo: Photo) -> dict[str, Any]:
    return {"image_id": item.image_id, "group": item.group, "orig_size": list(photo.full_size)}


def _written(image: Image, format_name: str, **options: int) -> bytes:
    content = io.BytesIO()
    Pillow.fromarray(image).save(content, format_name, **options)
    return content.getvalue()
