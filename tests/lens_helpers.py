"""Drawings seen through a lens, and a network that trusts what it sees."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from warp_train.geometry import (
    build_parametric_grid,
    covering_zoom,
    end_point_error,
    identity_grid,
    invert_lens,
)
from warp_train.models import HybridModel
from warp_train.models.config import ModelConfig
from warp_train.models.heads_plumbline import GATE_LR_SCALE

SIZE = (256, 384)


def seen_through(lens: tuple[float, ...], canvas: NDArray[np.uint8]) -> torch.Tensor:
    """`[1, 3, *SIZE]`: a grey canvas, some times as large, as OpenCV shows it through a lens."""
    height, width = SIZE
    times = len(canvas) // height
    params = torch.tensor([[*lens, 0, 0, 0, 0, 1.0]], dtype=torch.float64)
    at = invert_lens(identity_grid(*SIZE).double()[None], params, *SIZE)[0].numpy()
    x, y = ((at[..., i] + 1) / 2 * (n - 1) for i, n in ((0, width), (1, height)))
    x, y = (np.float32(part * 0.8 + n * 0.1) * times for part, n in ((x, width), (y, height)))
    seen: NDArray[np.uint8] = cv2.remap(canvas, x, y, cv2.INTER_AREA | cv2.INTER_LINEAR)
    return torch.tensor(seen / 255, dtype=torch.float32).expand(1, 3, -1, -1)


def as_if_trained(config: ModelConfig | None = None) -> HybridModel:
    """A new network whose gates are open, as training would open them."""
    model = HybridModel(config)
    head = model.parametric_head
    with torch.no_grad():
        head.plumb_line.gates.fill_(1 / GATE_LR_SCALE)
        head.filling.fill_(1 / GATE_LR_SCALE)
    return model


def error_and_bend(
    model: HybridModel, image: torch.Tensor, lens: tuple[float, ...]
) -> tuple[float, float]:
    """Mean end-point errors in px: of what `model` finds, and of doing nothing."""
    zoom = covering_zoom(torch.tensor([lens]), *SIZE).tolist()
    truth = build_parametric_grid(torch.tensor([[*lens, 0, 0, 0, 0, *zoom]]), *SIZE)
    with torch.no_grad():
        found = build_parametric_grid(model(image)["params"], *SIZE)
    still = identity_grid(*SIZE)[None]
    return end_point_error(found, truth).item(), end_point_error(still, truth).item()
