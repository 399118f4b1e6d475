"""Small pairs with known lenses, and models that say a given lens, for the tests of `evaluate`."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from data_helpers import opencv_maps, save, textured
from numpy.typing import NDArray

from warp_train.data.sources.manifest import PairItem
from warp_train.evaluation.measuring import FailedPhoto, PhotoResult, Task, start_measuring
from warp_train.geometry import IDENTITY_PARAMS, PARAM_NAMES, identity_grid, invert_lens
from warp_train.inference.predictor import Predictor
from warp_train.inference.straightener import Straightener
from warp_train.models import HybridModel, ModelConfig, TrainedOn, save_pretrained

SIZE = (96, 144)
LENS = (-0.16, 0.05, 0.01, 0.002, -0.001, 0.02, -0.01, 0.97)
OTHER = (0.12, -0.03, 0.0, 0.0, 0.0, 0.0, 0.0, 1.04)


class Says(HybridModel):
    """A model that says the same of every photo."""

    def __init__(
        self, lens: Sequence[float], fixed_warp: Sequence[float] | None, size: tuple[int, int]
    ) -> None:
        fixed = None if fixed_warp is None else tuple(fixed_warp)
        trained = TrainedOn(stage="stage1_param_only", size=size, fixed_warp=fixed)
        super().__init__(ModelConfig(), residual_enabled=False, trained_on=trained)
        self.lens = lens

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        flow = torch.zeros(1, 2, 6, 9)
        params = torch.tensor([self.lens])
        return {"params": params, "residual_flow": flow, "uncertainty": torch.tensor([1e-5])}


def says(
    lens: Sequence[float],
    fixed_warp: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
) -> Straightener:
    return Straightener(Predictor(Says(lens, fixed_warp, size), torch.device("cpu"), "abcd"))


def save_model(
    folder: Path, lens: Sequence[float], fixed_warp: Sequence[float] | None = None
) -> Path:
    """A real network on disk whose every location votes for `lens`."""
    fixed = None if fixed_warp is None else tuple(fixed_warp)
    trained = TrainedOn(stage="stage2_hybrid", size=SIZE, fixed_warp=fixed)
    model = HybridModel(trained_on=trained)
    head = model.parametric_head
    deviation = torch.tensor(lens) - torch.tensor(IDENTITY_PARAMS)
    with torch.no_grad():
        raw = torch.atanh(deviation / head.bounds)
        head.votes.bias[:8] = torch.linalg.solve(head.mixing.T, raw)
        head.uncertainty.out.bias.fill_(-7)  # sure of it
    save_pretrained(model, folder)
    return folder


def start_mishaps(
    fixed_warp: tuple[float, ...] | None,
) -> Callable[[Task], PhotoResult | FailedPhoto]:
    """In place of `start_measuring`: dies of, or raises at, the pairs that are named for it."""
    measured = start_measuring(fixed_warp)

    def work(task: Task) -> PhotoResult | FailedPhoto:
        if task.item.image_id == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if task.item.image_id == "raises":
            raise MemoryError("no room")
        return measured(task)

    return work


def bend(straight: NDArray[np.uint8], lens: Sequence[float]) -> NDArray[np.uint8]:
    """The photo that `lens` corrects to `straight`."""
    height, width = straight.shape[:2]
    params = torch.tensor([lens], dtype=torch.float64)
    at = invert_lens(identity_grid(height, width).double()[None], params, height, width)[0]
    x, y = (
        np.float32((at[..., i].numpy() + 1) / 2 * (n - 1)) for i, n in ((0, width), (1, height))
    )
    return cv2.remap(straight, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def make_pair(
    folder: Path,
    image_id: str,
    lens: Sequence[float] = LENS,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    known: bool = True,
    **extra: str | float,
) -> PairItem:
    straight = textured(*size, seed)
    source = save(folder / f"{image_id}_original.png", bend(straight, lens))
    target = save(folder / f"{image_id}_generated.png", straight)
    params = np.array(lens if known else [np.nan] * 8)
    group = image_id.rpartition("_g")[0] or image_id
    return PairItem(image_id, group, target, source, params, "", extra)


def write_manifest(folder: Path, items: Sequence[PairItem], *columns: str) -> Path:
    """`columns`: those of the items' extras."""
    lines = [",".join(("image_id", "input", "target", *columns, *PARAM_NAMES))]
    for item in items:
        lens = ["" if np.isnan(value) else repr(float(value)) for value in item.params]
        extra = [str(item.extra[name]) for name in columns]
        lines.append(",".join((item.image_id, item.input.name, item.target.name, *extra, *lens)))
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def mean_shift(lens: Sequence[float], other: Sequence[float], size: tuple[int, int]) -> float:
    """Mean distance in px between the positions that two lenses read, by OpenCV."""
    (x, y), (x2, y2) = (opencv_maps(params, *size) for params in (lens, other))
    return float(np.hypot(x - x2, y - y2).mean())
