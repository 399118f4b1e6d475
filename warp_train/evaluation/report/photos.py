"""The photos that a report shows: the best, the median and the worst, small and embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from warp_train.evaluation.measuring import PhotoResult, corrected, read_pair
from warp_train.photos.pixels import Image

_EACH = 3
_LONG_SIDE = 640
_QUALITIES = (85, 70, 50, 30)
_MOST_BYTES = 120_000
"""Of one picture: 27 of them, in base64, stay below 4.4 MB."""


@dataclass(frozen=True)
class Showcase:
    """A photo as it is, as the model corrects it, and as it should be: JPEGs as data URIs."""

    photo: PhotoResult
    before: str
    after: str
    truth: str
    size: tuple[int, int]
    """(height, width) of the pictures."""


def ranked_by_epe(photos: Sequence[PhotoResult]) -> bool:
    """Whether photos can be ranked by end-point error: every exact warp is known."""
    return all(photo.figures("model")["epe_px"] is not None for photo in photos)


def choose(photos: Sequence[PhotoResult]) -> dict[str, list[PhotoResult]]:
    """Up to three photos each of `best`, `median` and `worst`, none of them twice.

    By the model's end-point error where it is known for all, otherwise by its score.
    """
    by_epe = ranked_by_epe(photos)

    def rank(photo: PhotoResult) -> float:
        figures = photo.figures("model")
        return (figures["epe_px"] or 0.0) if by_epe else -figures["total_score"]

    ordered = sorted(photos, key=rank)
    best, others = ordered[:_EACH], ordered[_EACH:]
    worst, between = others[-_EACH:], others[:-_EACH]
    first = max(0, (len(between) - _EACH) // 2)
    return {"best": best, "median": between[first : first + _EACH], "worst": worst[::-1]}


def show(photo: PhotoResult) -> Showcase:
    """Renders a photo again. Raises BadSample if its files no longer exist."""
    pixels, target = read_pair(photo.task.item)
    pictures = [_shrunk(image) for image in (pixels, corrected(photo.task, pixels), target)]
    before, after, truth = (_data_uri(picture) for picture in pictures)
    return Showcase(photo, before, after, truth, (pictures[0].height, pictures[0].width))


def _shrunk(image: Image) -> Pillow.Image:
    picture = Pillow.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_LONG_SIDE, _LONG_SIDE), Pillow.Resampling.LANCZOS)
    return picture


def _data_uri(picture: Pillow.Image) -> str:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= _MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
