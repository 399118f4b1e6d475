"""The yardstick: the same network and terms, written as one writes them first.

Three Sobel passes per image and term, an 11 × 11 Gaussian SSIM by five depthwise convolutions, a
pyramid per term, determinants by `torch.gradient`, grids rebuilt in every step, float32 and
contiguous memory throughout. As trainers of this design that one meets do, each step reads its
losses, the statistics of its tensors, gradient norms and parameter changes from the device one by
one, into a dictionary for the log. Its terms measure what the package's do, not to the same number:
it is there to be timed, never to train with. A term that it lacks is left out of its step.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from warp_train.data import Batch
from warp_train.losses import LossConfig
from warp_train.recipe import Recipe
from warp_train.training.optim import build_optimizer
from warp_train.training.run import build_model

_EPSILON = 1e-6


class EagerPeer:
    """A training step of its own, on a network of its own."""

    def __init__(self, recipe: Recipe, batches: Iterator[Batch], device: torch.device) -> None:
        self._model = build_model(recipe).to(device)
        self._optimizer = build_optimizer(self._model, recipe.optim)
        self._loss, self._batches, self._device = recipe.loss, batches, device
        self._clip = recipe.train.grad_clip or float("inf")
        self._groups = {
            name: list(part.parameters()) for name, part in self._model.named_children()
        }

    def step(self) -> dict[str, float]:
        """One step, and what is logged of it: numbers by name, `loss/total` among them."""
        batch = next(self._batches)
        image, target = (batch[k].to(self._device) for k in ("input_image", "target_image"))
        out = self._model(image)
        grid = warp_grid(out["params"], out["residual_flow"], *image.shape[-2:])
        warped = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
        truth = _true_grid(batch, self._device)
        terms = _terms(self._loss, warped, target, grid, truth, out["residual_flow"])
        total = torch.stack(list(terms.values())).sum()
        self._optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        log = {f"loss/{name}": term.item() for name, term in (*terms.items(), ("total", total))}
        tensors = {key: out[key] for key in ("params", "params_raw", "residual_flow")}
        tensors |= {"image": image, "target": target, "warped": warped, "grid": grid}
        for name, tensor in tensors.items():
            log |= _statistics(name, tensor)
        log |= {f"grad_norm/{name}": _norm(_gradients(p)) for name, p in self._groups.items()}
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        before = {name: [p.detach().clone() for p in part] for name, part in self._groups.items()}
        self._optimizer.step()
        for name, part in self._groups.items():
            moved = [p.detach() - old for p, old in zip(part, before[name], strict=True)]
            log[f"update_norm/{name}"] = _norm(moved)
        return log


def _gradients(parameters: list[Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norm(tensors: list[Tensor]) -> float:
    return float(sum(tensor.norm().item() ** 2 for tensor in tensors) ** 0.5)


def _statistics(name: str, tensor: Tensor) -> dict[str, float]:
    values = tensor.detach().float()
    return {
        f"{name}/min": values.min().item(),
        f"{name}/max": values.max().item(),
        f"{name}/mean": values.mean().item(),
        f"{name}/std": values.std().item(),
        f"{name}/finite": values.isfinite().float().mean().item(),
    }


def _terms(
    config: LossConfig, warped: Tensor, target: Tensor, grid: Tensor, truth: Tensor, flow: Tensor
) -> dict[str, Tensor]:
    levels = config.pyramid_levels
    terms: dict[str, Callable[[], Tensor]] = {
        "pixel": lambda: _over_scales(F.l1_loss, warped, target, levels),
        "ssim": lambda: _over_scales(_ssim, warped, target, levels),
        "edge": lambda: _over_scales(_edge, warped, target, levels),
        "line": lambda: _over_scales(_line, warped, target, levels),
        "grad_orient": lambda: _over_scales(_orientation, warped, target, levels),
        "grid": lambda: torch.where(truth.isfinite(), grid - truth, 0.0).norm(dim=-1).mean(),
        "flow_tv": lambda: flow.diff(dim=-1).abs().mean() + flow.diff(dim=-2).abs().mean(),
        "flow_mag": lambda: flow.norm(dim=1).mean(),
        "flow_curv": lambda: (
            flow.diff(n=2, dim=-1).square().mean() + flow.diff(n=2, dim=-2).square().mean()
        ),
        "jacobian": lambda: (config.jacobian_margin - _determinant(grid)).relu().mean(),
    }
    weights = {name: weight for name, weight in config.weights.items() if name in terms}
    return {name: weight * terms[name]() for name, weight in weights.items()}


def warp_grid(params: Tensor, flow: Tensor, height: int, width: int) -> Tensor:
    """Lens `[B, 8]` and residual `[B, 2, h, w]` as one grid `[B, H, W, 2]`."""
    k1, k2, k3, p1, p2, dcx, dcy, s = (p.view(-1, 1, 1) for p in params.unbind(1))
    ys = torch.linspace(-1, 1, height, device=params.device)
    xs = torch.linspace(-1, 1, width, device=params.device)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    diagonal = ((width - 1) ** 2 + (height - 1) ** 2) ** 0.5
    across, down = (width - 1) / diagonal, (height - 1) / diagonal
    u, v = (x * across - dcx) / s, (y * down - dcy) / s
    r2 = u**2 + v**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    lens_x = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u**2) + dcx
    lens_y = v * radial + p1 * (r2 + 2 * v**2) + 2 * p2 * u * v + dcy
    lens = torch.stack((lens_x / across, lens_y / down), dim=-1)
    rows, columns = flow.shape[-2:]
    full = F.interpolate(flow, (height, width), mode="bilinear", align_corners=True)
    unit = torch.tensor((2 / max(columns - 1, 1), 2 / max(rows - 1, 1)), device=flow.device)
    return lens + full.permute(0, 2, 3, 1) * unit


def _true_grid(batch: Batch, device: torch.device) -> Tensor:
    if "target_grid" in batch:
        grid: Tensor = batch["target_grid"]
        return grid.to(device)
    params = batch["target_params"].to(device)
    height, width = batch["target_image"].shape[-2:]
    return warp_grid(params, params.new_zeros(len(params), 2, 2, 2), height, width)


def _over_scales(
    term: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor, levels: int
) -> Tensor:
    values = []
    for _ in range(levels):
        values.append(term(one, other))
        one, other = F.avg_pool2d(one, 2), F.avg_pool2d(other, 2)
    return torch.stack(values).mean()


def _grey(image: Tensor) -> Tensor:
    weights = torch.tensor((0.299, 0.587, 0.114), device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def _sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    kernel = torch.tensor(((-1.0, 0, 1), (-2, 0, 2), (-1, 0, 1)), device=image.device) / 8
    grey = _grey(image)
    across = F.conv2d(grey, kernel[None, None], padding=1)
    return across, F.conv2d(grey, kernel.T[None, None], padding=1)


def _edge(one: Tensor, other: Tensor) -> Tensor:
    (ax, ay), (bx, by) = _sobel(one), _sobel(other)
    return F.l1_loss((ax**2 + ay**2 + _EPSILON).sqrt(), (bx**2 + by**2 + _EPSILON).sqrt())


def _orientation(one: Tensor, other: Tensor) -> Tensor:
    (ax, ay), (bx, by) = _sobel(one), _sobel(other)
    cosine = (ax * bx + ay * by) / ((ax**2 + ay**2 + _EPSILON) * (bx**2 + by**2 + _EPSILON)).sqrt()
    weight = (bx**2 + by**2).sqrt()
    return ((1 - cosine**2) * weight).sum() / (weight.sum() + _EPSILON)


def _line(one: Tensor, other: Tensor) -> Tensor:
    directions = []
    for gx, gy in (_sobel(image) for image in (one, other)):
        xx, yy, xy = (F.avg_pool2d(part, 8, 4) for part in (gx * gx, gy * gy, gx * gy))
        energy = xx + yy + _EPSILON
        directions.append(torch.stack(((xx - yy) / energy, 2 * xy / energy)))
    return (directions[0] - directions[1]).square().sum(0).mean()


def _blur(image: Tensor) -> Tensor:
    """Gaussian of 11 × 11 with a deviation of 1.5, as SSIM's paper has it."""
    taps = torch.exp(-(torch.arange(-5, 6, device=image.device) ** 2) / (2 * 1.5**2))
    taps = taps / taps.sum()
    channels = image.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 11, 11)
    return F.conv2d(image, kernel, padding=5, groups=channels)


def _ssim(one: Tensor, other: Tensor) -> Tensor:
    mean_x, mean_y = _blur(one), _blur(other)
    var_x, var_y = _blur(one * one) - mean_x**2, _blur(other * other) - mean_y**2
    cov = _blur(one * other) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    structure = (2 * cov + 0.03**2) / (var_x + var_y + 0.03**2)
    return 1 - (luminance * structure).mean()


def _determinant(grid: Tensor) -> Tensor:
    height, width = grid.shape[1:3]
    x, y = grid.unbind(-1)
    (x_down, x_across), (y_down, y_across) = (torch.gradient(g, dim=(1, 2)) for g in (x, y))
    return (x_across * y_down - x_down * y_across) * ((height - 1) * (width - 1) / 4)
