"""The fixed warp of a run: one lens for all photos, which a network has to beat."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from accelerate.utils import broadcast_object_list
from torch import Tensor

from warp_train.data import Batch
from warp_train.geometry import (
    apply_lens,
    build_parametric_grid,
    covering_zoom,
    fit_lens,
    identity_grid,
    warp_image,
)
from warp_train.losses import CompositeLoss
from warp_train.losses.config import IMAGE_TERMS
from warp_train.models.heads_residual import no_flow

MEDIAN_NODES = (33, 49)
_LONG_SIDE = 192
"""In px, of the frames that a lens is fitted to by the look of its result."""
_SAMPLES = 32
_BENDS = torch.linspace(-0.4, 0.3, 8)
_STEPS, _RATE = 15, 0.02


Lens = tuple[float, ...]


def fixed_warp(
    batches: Iterable[Batch], size: tuple[int, int], loss: CompositeLoss, device: torch.device
) -> Lens | None:
    """The fixed warp for frames of `size`, from one pass over training batches.

    Where warps are known, it fits their median; where none is, it minimises the image terms of
    `loss` on the first samples. None if there are neither warps nor image terms. A network that is
    not better than this row has not learned to predict the warp of a single photo.

    Collective: call on every rank, which then have the same lens to the last bit.
    """
    found: list[Lens | None] = [_fixed_warp(batches, size, loss, device)]
    lens: Lens | None = broadcast_object_list(found, from_process=0)[0]
    return lens


def _fixed_warp(
    batches: Iterable[Batch], size: tuple[int, int], loss: CompositeLoss, device: torch.device
) -> Lens | None:
    grids: list[Tensor] = []
    frames: list[tuple[Tensor, Tensor]] = []
    seen = 0
    for batch in batches:
        grids.append(_known_grids(batch, size))
        if seen < _SAMPLES:
            frames.append(_reduced(batch, device))
            seen += len(frames[-1][0])
    known = torch.cat(grids)
    if len(known):
        return median_lens(known, size)
    source, target = (torch.cat(images)[:_SAMPLES] for images in zip(*frames, strict=True))
    return lens_by_image(source, target, loss)


def _known_grids(batch: Batch, size: tuple[int, int]) -> Tensor:
    """The known warps of a batch at the nodes of the median."""
    if "target_grid" in batch:
        coarse = F.interpolate(
            batch["target_grid"].permute(0, 3, 1, 2),
            MEDIAN_NODES,
            mode="bilinear",
            align_corners=True,
        ).permute(0, 2, 3, 1)
    else:
        nodes = identity_grid(*MEDIAN_NODES)
        points = nodes.expand(len(batch["target_params"]), -1, -1, -1)
        coarse = apply_lens(points, batch["target_params"].float(), *size)
    return coarse[torch.isfinite(coarse).flatten(1).all(1)]


def median_lens(grids: Tensor, size: tuple[int, int]) -> Lens:
    """The lens that fits the pointwise median of warps `[N, *MEDIAN_NODES, 2]`, N >= 1, for frames
    of `size`: close to the best single warp for all photos."""
    nodes = identity_grid(*MEDIAN_NODES)
    lens = fit_lens(nodes.reshape(-1, 2), grids.median(0).values.reshape(-1, 2), *size)
    return tuple(lens.tolist())


def lens_by_image(source: Tensor, target: Tensor, loss: CompositeLoss) -> Lens | None:
    """The lens that minimises the image terms of `loss` between frames `[N, 3, H, W]`.

    The best of some bends, each zoomed so that it just fills the frame, is refined by gradient
    descent in k1, k2, k3 and s. None if no image term has a weight.
    """
    if not loss.weights.keys() & {*IMAGE_TERMS}:
        return None
    size = (source.shape[2], source.shape[3])
    radial = torch.stack((_BENDS, -_BENDS / 3, torch.zeros_like(_BENDS)), 1)  # as real lenses bend
    starts = torch.cat((radial, covering_zoom(radial, *size)[:, None]), 1)
    starts = torch.cat((starts, torch.tensor([[0.0, 0, 0, 1]]))).to(source.device)
    with torch.no_grad():
        at = torch.stack([_image_loss(start, source, target, loss) for start in starts])
    found = starts[at.argmin()].clone().requires_grad_()
    best = (float(at.min()), found.detach().clone())
    optimizer = torch.optim.Adam([found], lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        value = _image_loss(found, source, target, loss)
        if float(value.detach()) < best[0]:
            best = (float(value.detach()), found.detach().clone())
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    k1, k2, k3, s = best[1].tolist()
    return (k1, k2, k3, 0.0, 0.0, 0.0, 0.0, s)


def _image_loss(lens: Tensor, source: Tensor, target: Tensor, loss: CompositeLoss) -> Tensor:
    """The loss of one lens `[k1, k2, k3, s]` on all samples."""
    params = torch.cat((lens[:3], lens.new_zeros(4), lens[3:]))[None]
    grid = build_parametric_grid(params, *source.shape[-2:]).expand(len(source), -1, -1, -1)
    unknown = torch.full_like(grid, torch.nan)
    _, parts = loss(
        warp_image(source, grid),
        target,
        final_grid=grid,
        target_grid=unknown,
        residual_flow=no_flow(source),
    )
    return loss.warp_total(parts)


def _reduced(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    step = max(1, round(max(batch["input_image"].shape[-2:]) / _LONG_SIDE))
    source, target = (
        F.avg_pool2d(batch[name].to(device), step) for name in ("input_image", "target_image")
    )
    return source, target
