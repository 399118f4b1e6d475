"""The fixed warp of a run: one lens for all photos, which a network has to beat."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
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
_SAMPLES = 64
_BENDS = torch.linspace(-0.4, 0.3, 15)
_STEPS, _RATE = 40, 0.01


def median_lens(batches: Iterable[Batch], size: tuple[int, int]) -> tuple[float, ...] | None:
    """The fixed warp: the lens that fits the pointwise median of known warps, for frames of `size`.

    None if no warp is known. It is close to the best single warp for all photos. A network that is
    not better than this row has not learned to predict the warp of a single photo.
    """
    nodes = identity_grid(*MEDIAN_NODES)
    grids = []
    for batch in batches:
        if "target_grid" in batch:
            coarse = F.interpolate(
                batch["target_grid"].permute(0, 3, 1, 2),
                MEDIAN_NODES,
                mode="bilinear",
                align_corners=True,
            ).permute(0, 2, 3, 1)
        else:
            points = nodes.expand(len(batch["target_params"]), -1, -1, -1)
            coarse = apply_lens(points, batch["target_params"].float(), *size)
        grids.append(coarse[torch.isfinite(coarse).flatten(1).all(1)])
    known = torch.cat(grids)
    if not len(known):
        return None
    lens = fit_lens(nodes.reshape(-1, 2), known.median(0).values.reshape(-1, 2), *size)
    return tuple(lens.tolist())


def lens_by_image(
    batches: Iterable[Batch], loss: CompositeLoss, device: torch.device
) -> tuple[float, ...] | None:
    """The fixed warp where no warp is known: the lens that minimises the image terms of `loss`.

    The best of some bends, each zoomed so that it just fills the frame, is refined by gradient
    descent in k1, k2, k3 and s. None if no image term has a weight.
    """
    if not loss.weights.keys() & {*IMAGE_TERMS}:
        return None
    frames = [_reduced(batch, device) for batch in batches]
    source, target = (torch.cat(images)[:_SAMPLES] for images in zip(*frames, strict=True))
    size = (source.shape[2], source.shape[3])
    zeros = torch.zeros_like(_BENDS)
    radial = torch.stack((_BENDS, -_BENDS / 3, zeros), 1)  # as real lenses bend
    starts = torch.cat((radial, covering_zoom(radial, *size)[:, None]), 1)
    starts = torch.cat((starts, torch.tensor([[0.0, 0, 0, 1]]))).to(device)
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
