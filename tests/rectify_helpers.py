"""A model that says one lens, and photos of every kind to try it on."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_helpers import textured
from numpy.typing import NDArray
from PIL import Image

from warp_train.geometry import IDENTITY_PARAMS
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.inference.predictor import Predictor
from warp_train.inference.rectify_inputs import Job, Record, Settings
from warp_train.inference.rectify_photo import attempt
from warp_train.inference.straightener import Straightener
from warp_train.models import HybridModel, ModelConfig, TrainedOn, save_pretrained
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile
from warp_train.photos.metadata import Metadata

BARREL = (-0.12, 0.03, 0.01, 0.002, -0.001, 0.02, -0.01, 1.0)
"""Reads nothing outside the photo."""
PINCUSHION = (0.1, 0.02, 0.0, 0.001, 0.002, 0.01, -0.01, 0.97)
"""Does, at every edge."""


class Says(HybridModel):
    """A model that says the same of every photo."""

    def __init__(self, lens: tuple[float, ...], flow: torch.Tensor | None = None) -> None:
        trained = TrainedOn(stage="stage2_hybrid", size=(96, 144))
        super().__init__(ModelConfig(), residual_enabled=flow is not None, trained_on=trained)
        self.lens, self.flow = lens, flow

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        flow = torch.zeros(1, 2, 6, 9) if self.flow is None else self.flow
        params = torch.tensor([self.lens])
        return {"params": params, "residual_flow": flow, "uncertainty": torch.tensor([1e-5])}


def says(lens: tuple[float, ...], flow: torch.Tensor | None = None) -> Straightener:
    return Straightener(Predictor(Says(lens, flow), torch.device("cpu"), "0123456789abcdef"))


def lens_warp(lens: tuple[float, ...], residual: torch.Tensor | None = None) -> PhotoWarp:
    return PhotoWarp(torch.tensor(lens, dtype=torch.float64), residual)


def save_lens_model(folder: Path, lens: tuple[float, ...]) -> Path:
    """A real checkpoint whose network says `lens`, whatever it sees."""
    trained = TrainedOn(stage="stage1_param_only", size=(96, 144))
    model = HybridModel(residual_enabled=False, trained_on=trained)
    head = model.parametric_head
    share = (torch.tensor(lens) - torch.tensor(IDENTITY_PARAMS)) / head.bounds
    with torch.no_grad():
        head.mixing.copy_(torch.eye(8))
        head.votes.bias[:8] = torch.atanh(share)
        head.uncertainty.out.bias.fill_(-7)  # sure of it
    save_pretrained(model, folder)
    return folder


def pixels(height: int, width: int, channels: int, depth: Any = np.uint8) -> NDArray[Any]:
    """A textured picture with alpha that varies, [H, W, channels]."""
    colour = textured(height, width, seed=channels)
    alpha = np.linspace(0, 255, width).astype(np.uint8)[None, :, None].repeat(height, 0)
    layers = {1: [colour[..., :1]], 2: [colour[..., :1], alpha], 3: [colour], 4: [colour, alpha]}
    picture = np.concatenate(layers[channels], axis=2)
    if depth == np.uint8:
        return picture
    return (picture.astype(np.uint16) * 256 + picture[::-1]).astype(np.uint16)


def write_photo(
    path: Path, picture: NDArray[Any], kind: Any, metadata: Metadata | None = None
) -> Path:
    """A file of the given kind, written by the program itself; PIL and OpenCV check that."""
    photo = PhotoFile(picture, kind, metadata or Metadata())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_photo(photo, picture, kind, None)[0])
    return path


def exif_block(orientation: int) -> bytes:
    """EXIF with exposure, place, a maker's note and a wrong size, without the `Exif` header."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "Warp & Sons"
    exposure, maker, width, height = 0x829A, 0x927C, 0xA002, 0xA003
    tags[0x8769] = {exposure: 0.5, maker: b"maker's own" * 9, width: 9999, height: 8888}
    tags[0x8825] = {1: "N"}
    return tags.tobytes().removeprefix(b"Exif\x00\x00")


def run(source: Path, lens: Any = BARREL, out: str = "out", **options: Any) -> Record:
    """The record of one photo, corrected into the folder `out` beside it."""
    folder = source.parent / out
    folder.mkdir(exist_ok=True)
    straightener = lens if isinstance(lens, Straightener) else says(lens)
    job = Job(source, folder / options.pop("name", source.name))
    return attempt(job, straightener, Settings(folder, **options))
