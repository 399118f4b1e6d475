"""Pictures to register, and lines of `recover`."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def drawn(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Boxes, lines and grain of every size: as much to hold on to as in a furnished room."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(120):
        at = rng.uniform(-0.1, 1.1, 2) * (width, height)
        size = rng.uniform(0.01, 0.2) * width
        color = rng.uniform(0, 255, 3).tolist()
        corners = cv2.boxPoints(
            (at.tolist(), (size, size * rng.uniform(0.2, 1)), rng.uniform(0, 90))
        )
        cv2.fillPoly(picture, [np.int32(corners * 16)], color, cv2.LINE_AA, 4)
    return np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
