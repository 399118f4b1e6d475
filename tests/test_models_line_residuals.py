"""Line residuals: against lines that are known to wave."""

import numpy as np
import pytest
import torch

from warp_train.geometry import half_diagonal, identity_grid, invert_lens, isotropic_scale
from warp_train.models import HybridModel, ModelConfig
from warp_train.models.edges import Edges, measure_edges
from warp_train.models.line_residuals import (
    LINE_RESIDUAL_CHANNELS,
    line_residual_map,
    line_residuals,
)

SIZE = (192, 288)
UNIT = half_diagonal(*SIZE)
WAVE_PX, PERIOD_PX = 2.0, 192.0
NO_LENS, NO_TILT = torch.zeros(1, 3), torch.zeros(1, 2, 2)


def stripes(*, level: bool, wave_px: float = WAVE_PX) -> torch.Tensor:
    """`[1, 3, *SIZE]`: edges every 32 px, each `wave_px · sin` of where it is along itself."""
    along, across = np.mgrid[: SIZE[1] if level else SIZE[0], : SIZE[0] if level else SIZE[1]]
    at = across - wave_px * np.sin(2 * np.pi * along / PERIOD_PX)
    shade = 0.5 + 0.4 * np.clip(6 * np.sin(2 * np.pi * at / 64 + 1), -1, 1)
    return torch.tensor(shade.T if level else shade, dtype=torch.float32).expand(1, 3, -1, -1)


def well_inside(edges: Edges) -> torch.Tensor:
    """Edges whose whole second stretch lies in the photo."""
    bounds = torch.tensor((SIZE[1] / 2, SIZE[0] / 2)) / UNIT - 0.12
    return (edges.position.abs() < bounds).all(-1) & (edges.support[..., 1] > 0.9)


@pytest.mark.parametrize("level", [False, True])
def test_residuals_of_waves_are_their_derivatives(level: bool) -> None:
    edges = measure_edges(stripes(level=level), 512)
    residuals = line_residuals(edges, NO_LENS, NO_TILT)
    assert residuals.shape == (1, edges.position.shape[1], LINE_RESIDUAL_CHANNELS)
    here = well_inside(edges)
    assert here.sum() > 100
    axis = int(level)  # the wave moves upright edges along x, level ones along y
    along = edges.position[..., 1 - axis] * UNIT + (SIZE[axis] - 1) / 2
    rate = 2 * np.pi / PERIOD_PX
    slope = WAVE_PX * rate * torch.cos(rate * along)
    bend = -WAVE_PX * rate**2 * torch.sin(rate * along) * UNIT
    bends = residuals[..., :8].unflatten(-1, (4, 2))[..., 1, :] / edges.support[..., 1, None]
    assert (bends[..., axis] - torch.tanh(bend / 0.3))[here].abs().max() < 0.15
    assert bends[..., 1 - axis][here].abs().max() < 0.1
    sine, near = residuals[..., 8 + axis], residuals[..., 10:12]
    assert (sine - torch.tanh(slope / 0.05))[here].abs().max() < 0.15
    assert near[..., axis][here].all()
    assert not near[..., 1 - axis][here].any()


def test_which_side_is_brighter_does_not_matter() -> None:
    image = stripes(level=False)
    every = 24 * 36
    both = measure_edges(image, every), measure_edges(1 - image, every)
    normals, residuals = (
        [line_residual_map(of(edges), edges, 8, (24, 36)) for edges in both]
        for of in (
            lambda edges: edges.normal,
            lambda edges: line_residuals(edges, NO_LENS, NO_TILT),
        )
    )
    clear = line_residual_map(both[0].strength[..., None], both[0], 8, (24, 36))[0, 0] > 0.02
    assert clear.sum() > 200
    torch.testing.assert_close(normals[0][..., clear], -normals[1][..., clear], atol=0.01, rtol=0)
    torch.testing.assert_close(*(of[..., clear] for of in residuals), atol=0.01, rtol=0)


@pytest.mark.parametrize("lens", [(-0.25, 0.05, 0.0), (0.2, -0.05, 0.02)])
def test_through_the_right_lens_little_is_left_of_straight_lines(lens: tuple[float, ...]) -> None:
    params = torch.tensor([[*lens, 0, 0, 0, 0, 1.0]])
    straight = invert_lens(identity_grid(*SIZE)[None], params, *SIZE)[0]
    across = straight[..., 0] * isotropic_scale(*SIZE)[0]
    shade = 0.5 + 0.4 * (6 * torch.sin(18 * across + 1)).clamp(-1, 1)
    edges = measure_edges(shade.expand(1, 3, -1, -1), 512)
    here = well_inside(edges)
    left = [
        line_residuals(edges, torch.tensor([radial]), NO_TILT)[..., 2:4][here].norm(dim=-1).mean()
        for radial in (lens, (0.0, 0.0, 0.0))
    ]
    assert left[1] > 0.2
    assert left[0] < 0.1 * left[1]


def test_the_map_has_each_edge_in_its_cell() -> None:
    edges = measure_edges(stripes(level=True)[..., :184, :], 64)  # 23 × 36 cells
    values = torch.rand(1, 64, 2)
    fine = line_residual_map(values, edges, 8, (23, 36))
    row, column = edges.cell[0].unbind(-1)
    assert torch.equal(fine[0, :, row, column].mT, values[0])
    assert fine.count_nonzero() == 128
    coarse = line_residual_map(values, edges, 16, (12, 18))
    torch.testing.assert_close(coarse.sum((2, 3)) * 4, values.sum(1))
    assert coarse[0, :, row // 2, column // 2].abs().min() > 0


@pytest.mark.parametrize("backbone", ["tiny", "resnet34"])
def test_the_residual_follows_the_line_residuals(backbone: str) -> None:
    torch.manual_seed(0)
    model = HybridModel(ModelConfig.model_validate({"backbone": backbone})).eval()
    head = model.residual_head
    with torch.no_grad():
        head.join.weight[:, :-LINE_RESIDUAL_CHANNELS] = 0  # ignores the features
        torch.nn.init.normal_(head.flow.weight)
        straight, wavy = (
            model(stripes(level=False, wave_px=wave))["residual_flow"] for wave in (0.0, WAVE_PX)
        )
    assert (wavy - straight).abs().mean() > 1e-3
