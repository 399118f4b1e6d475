"""Pictures of what the network does: input | prediction | target, with the warp drawn over."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from warp_train.geometry import grid_to_pixels
from warp_train.runtime.atomic_files import write_atomically

Picture = NDArray[np.uint8]

LINES_PER_SHORT_SIDE = 9
GRID_COLOUR = (255, 210, 0)
SUBPIXEL_BITS = 4
GAP = 4
CAPTION_HEIGHT = 22
JPEG_QUALITY = 92


def to_picture(image: Tensor) -> Picture:
    """A `[3, H, W]` image in 0..1 as RGB bytes `[H, W, 3]`."""
    scaled = image.detach().float().clamp(0, 1).mul(255).round()
    return scaled.permute(1, 2, 0).cpu().numpy().astype(np.uint8)


def draw_grid(picture: Picture, grid: Tensor) -> Picture:
    """Draws the corrected frame's straight lines where they lie in the input.

    Args:
        picture: the input, RGB `[H, W, 3]`.
        grid: its predicted backward warp `[H', W', 2]`.
    """
    canvas: Picture = picture.copy()
    points = grid_to_pixels(grid.detach().cpu(), *picture.shape[:2]).numpy()
    fixed = np.round(points * 2**SUBPIXEL_BITS).clip(-(2**24), 2**24).astype(np.int32)
    rows, columns = (_line_positions(n, min(fixed.shape[:2])) for n in fixed.shape[:2])
    lines = [*(fixed[row] for row in rows), *(fixed[:, column].copy() for column in columns)]
    cv2.polylines(
        canvas, lines, False, GRID_COLOUR, thickness=1, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS
    )
    return canvas


def panel(input_image: Tensor, prediction: Tensor, target: Tensor, grid: Tensor) -> Picture:
    """One training picture: input under its predicted grid | prediction | target."""
    return side_by_side(
        {
            "input, predicted grid": draw_grid(to_picture(input_image), grid),
            "prediction": to_picture(prediction),
            "target": to_picture(target),
        }
    )


def before_after(input_image: Tensor, prediction: Tensor, target: Tensor) -> Picture:
    """The picture to show: before | after | truth, each `[3, H, W]` in 0..1."""
    return side_by_side(
        {
            "before": to_picture(input_image),
            "after": to_picture(prediction),
            "truth": to_picture(target),
        }
    )


def side_by_side(pictures: Mapping[str, Picture]) -> Picture:
    """Captioned pictures in a row, on white."""
    height = max(picture.shape[0] for picture in pictures.values())
    columns: list[Picture] = []
    for caption, picture in pictures.items():
        column = np.full((CAPTION_HEIGHT + height, picture.shape[1], 3), 255, np.uint8)
        column[CAPTION_HEIGHT : CAPTION_HEIGHT + picture.shape[0]] = picture
        cv2.putText(
            column, caption, (2, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
        )
        columns += [column, np.full((column.shape[0], GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def stacked(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one width below each other, on white."""
    gap = np.full((GAP, pictures[0].shape[1], 3), 255, np.uint8)
    rows = [row for picture in pictures for row in (picture, gap)]
    return np.concatenate(rows[:-1], axis=0)


def save_picture(path: Path, picture: Picture) -> None:
    """Writes an RGB picture in the format of the file name's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, bgr, options)
    write_atomically(path, encoded.tobytes())


def save_panels(
    folder: Path, step: int, panels: Mapping[str, Picture], keep_latest: int = 10
) -> None:
    """Writes panels as `step-<step>-<image id>.jpg`.

    Panels of the first step and of the `keep_latest` newest steps are kept, others are removed.
    """
    for image_id, picture in panels.items():
        safe_id = re.sub(r"[^\w.-]+", "_", image_id)[-80:]
        save_picture(folder / f"step-{step:09d}-{safe_id}.jpg", picture)
    files = sorted(folder.glob("step-*.jpg"))
    steps = sorted({file.name[:14] for file in files})
    for file in files:
        if file.name[:14] in steps[1:-keep_latest]:
            file.unlink()


def _line_positions(length: int, short_side: int) -> list[int]:
    """Positions of evenly spread lines, borders included, at the same distance along both axes."""
    count = 1 + round((LINES_PER_SHORT_SIDE - 1) * (length - 1) / max(short_side - 1, 1))
    return [round(i * (length - 1) / max(count - 1, 1)) for i in range(count)]
