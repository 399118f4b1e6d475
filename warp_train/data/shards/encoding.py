"""The files that a shard contains of a photo or a pair: reduced to the size that training needs."""

import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow

from warp_train.data.decoding import Photo, decode_image, decode_pair
from warp_train.data.frames import cover_sides, is_across
from warp_train.data.pair_frames import pair_frames
from warp_train.data.sources.files import Item
from warp_train.data.sources.manifest import PairItem
from warp_train.photos.pixels import Image

_AS_THEY_ARE = (".jpg", ".jpeg", ".png")  # every reader of WebDataset's tars can decode these
_QUALITY = 95


class Encoded(NamedTuple):
    """A sample in a shard."""

    files: dict[str, bytes]
    """Contents by the part of the file's name after the sample's key, such as `target.jpg`."""
    about: dict[str, Any]
    """`image_id`, `group` and `orig_size`; for a pair also `params` (None: unknown), `extra` and,
    if it is known, `profile` (its values and its unit)."""


def encode(item: Item, size: tuple[int, int]) -> Encoded:
    """The item, encoded for frames of up to `size`. Raises BadSample if it cannot be read."""
    return _pair(item, size) if isinstance(item, PairItem) else _photo(item, size)


def _pair(item: PairItem, size: tuple[int, int]) -> Encoded:
    """Both photos as frames, neither rotated nor compressed with loss, so that training uses the
    same pixels as without a cache."""
    source, target = decode_pair(item.input, item.target, *cover_sides(size))
    upright = size[::-1] if is_across(source.full_size, size) else size
    cut = pair_frames(source, target, item.params, item.profile, upright)
    files = {"input.ppm": _written(cut.source, "PPM"), "target.ppm": _written(cut.target, "PPM")}
    known = None if np.isnan(cut.params).any() else cut.params.tolist()
    about = {**_about(item, source), "params": known, "extra": dict(item.extra)}
    if cut.profile is not None:
        values, unit = cut.profile
        about["profile"] = [values.tolist(), unit]
    return Encoded(files, about)


def _photo(item: Item, size: tuple[int, int]) -> Encoded:
    """The file itself if it is small; otherwise the photo, reduced to the size that frames are
    cropped from."""
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
