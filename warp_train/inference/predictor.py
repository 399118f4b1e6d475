"""A trained model on a device: it predicts the warp of a photo from a small copy of the photo."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from warp_train.data.frames import (
    fit_image,
    fit_ratio,
    is_across,
    turn_image,
    turn_lens,
)
from warp_train.data.samples import to_tensor
from warp_train.geometry import rescale_params
from warp_train.inference.photo_warp import PhotoWarp
from warp_train.models import HybridModel, from_pretrained
from warp_train.models.heads_parametric import Observation, ParametricHead
from warp_train.models.hybrid_model import Prediction
from warp_train.photos.pixels import Image, as_image
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.ranks import ranks

_DEFAULT_SIZE = (192, 288)  # for weights without a record of their training
_LEAST_SIDE = 32


@dataclass(frozen=True)
class SmallCopy:
    """The small copy of a photo that the network looks at."""

    shape: tuple[int, int]
    """(height, width) of the photo, turned as the copy is."""
    size: tuple[int, int]
    """(height, width) of the copy."""
    across: bool
    """The copy is turned by a quarter."""

    @property
    def photo_size(self) -> tuple[int, int]:
        """(height, width) of the photo, upright."""
        height, width = self.shape
        return (width, height) if self.across else (height, width)

    def photo_lens(self, params: Tensor) -> Tensor:
        """The lens `[8]` float64 in the photo's own frame, from that in the copy's."""
        lens = rescale_params(params.double().cpu(), 1 / fit_ratio(self.shape, self.size))
        return torch.from_numpy(_turn_lens_back(lens.numpy())) if self.across else lens


class Sight(NamedTuple):
    """A photo as the network sees it."""

    warp: PhotoWarp
    """The prediction for this photo by itself."""
    observation: Observation
    """What it shows of its lens."""
    frame: SmallCopy


@dataclass(frozen=True)
class Predictor:
    """A model, the device that it is on, and the hash of its weights."""

    model: HybridModel
    device: torch.device
    model_hash: str
    """Identifies the weights: 16 hex digits of the SHA-256 over their names and values."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a frame with the area of the small copy: `TrainedOn.look`."""
        return self.model.trained_on.look if self.model.trained_on else _DEFAULT_SIZE

    @cached_property
    def head(self) -> ParametricHead:
        """The parametric head on the CPU, where photos of one lens are solved together."""
        head = self.model.parametric_head
        return head if self.device.type == "cpu" else copy.deepcopy(head).cpu()

    @torch.inference_mode()
    def predict(self, photo: Image) -> PhotoWarp:
        """The warp that straightens an upright photo, RGB uint8 [H, W, 3], of any size.

        The small copy has the orientation of the training frames, the photo's aspect, and the area
        of `size`.
        """
        image, frame = self._small_copy(photo)
        return self._warp(self.model(image), frame)

    @torch.inference_mode()
    def see(self, photo: Image) -> Sight:
        """The prediction for a photo, and what it shows of its lens."""
        image, frame = self._small_copy(photo)
        prediction, seen = self.model.look(image)
        return Sight(self._warp(prediction, frame), seen.cpu(), frame)

    def _small_copy(self, photo: Image) -> tuple[Tensor, SmallCopy]:
        across = is_across(photo.shape, self.size)
        shape = photo.shape[1::-1] if across else photo.shape[:2]
        frame = SmallCopy((shape[0], shape[1]), _network_size(shape, self.size), across)
        halved = _halved(photo, least=2 * max(self.size))
        small = fit_image(turn_image(halved) if across else halved, frame.size)
        return to_tensor(small).to(self.device)[None], frame

    def _warp(self, prediction: Prediction, frame: SmallCopy) -> PhotoWarp:
        residual = None
        if self.model.residual_enabled:
            flow = prediction["residual_flow"][0].float().cpu()
            residual = _in_grid_units(_turn_flow_back(flow) if frame.across else flow)
        error = float(prediction["uncertainty"][0]) * self.model.uncertainty_factor
        return PhotoWarp(frame.photo_lens(prediction["params"][0]), residual, error)


def load_predictor(model: str | Path, device: str = "auto") -> Predictor:
    """Loads MODEL: `tiny` of the package, a run folder, a checkpoint folder or a hub id.

    Args:
        model: as above.
        device: `auto`, `cpu`, `cuda` or `mps`; `auto` takes a GPU if there is one. Of several GPUs,
            each process of a launch takes its own.

    Raises:
        WarpTrainError: the model cannot be loaded, or the device is not available.
    """
    chosen = _device(device)
    network = from_pretrained(model).eval()
    digest = _hash(network)
    network = network.to(chosen, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Predictor(network, chosen, digest)


def _device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in available.items() if there), "cpu")
    elif not available.get(name, True):
        raise WarpTrainError(f"device '{name}' is not available on this machine")
    try:
        if name == "cuda":
            return torch.device(name, ranks().local_rank % torch.cuda.device_count())
        return torch.device(name)
    except RuntimeError:
        raise WarpTrainError(f"device '{name}': expected auto, cpu, cuda or mps") from None


def _hash(network: HybridModel) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _network_size(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int]:
    """The aspect of `shape` at the area of `size`."""
    scale = (size[0] * size[1] / (shape[0] * shape[1])) ** 0.5
    height, width = (max(_LEAST_SIDE, round(side * scale)) for side in shape[:2])
    return height, width


def _halved(photo: Image, least: int) -> Image:
    """The photo, halved as often as its sides are even and keep `least` pixels.

    Training decodes large photos in the same way. An exact filter over all pixels would take longer
    than the network.
    """
    height, width = photo.shape[:2]
    while height % 2 == width % 2 == 0 and min(height, width) >= 2 * least:
        height, width = height // 2, width // 2
        photo = as_image(cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA))
    return photo


def _turn_lens_back(lens: np.ndarray) -> np.ndarray:
    for _ in range(3):
        lens = turn_lens(lens)
    return lens


def _turn_flow_back(flow: Tensor) -> Tensor:
    """A flow `[2, h, w]` of the frame after `turn_image`, rotated back (clockwise)."""
    dx, dy = flow.rot90(-1, (1, 2))
    return torch.stack((-dy, dx))


def _in_grid_units(flow: Tensor) -> Tensor:
    rows, columns = flow.shape[1:]
    unit = flow.new_tensor((2 / max(columns - 1, 1), 2 / max(rows - 1, 1)))
    return flow.permute(1, 2, 0) * unit
