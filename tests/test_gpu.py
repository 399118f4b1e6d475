"""What only a GPU can show: no waits for it, and the same results as without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs_helpers import ROOT, SMALL, STAGES

from warp_train.benchmark.loops import TrainingLoop
from warp_train.data import Batch, SampleKey, collate
from warp_train.losses import CompositeLoss
from warp_train.recipe import Recipe, load_recipe
from warp_train.training.acceleration import build_accelerator
from warp_train.training.feeding import open_data
from warp_train.training.run import Run, build_model, start_run
from warp_train.training.step import forward_step, to_device
from warp_train.training.warp_backends import get_backend

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZED = ("data.size=[128,192]", "train.max_steps=50", "data.train_samples=40")


def recipe_of(stage: str, *more: str) -> Recipe:
    recipe = load_recipe(ROOT / "recipes" / f"{stage}.yaml", (*SMALL, *SIZED, *more))
    assert isinstance(recipe, Recipe)
    return recipe


def started(folder: Path, stage: str, *more: str) -> Run:
    recipe = recipe_of(stage, "train.device=cuda", *more)
    return start_run(recipe, open_data(recipe), build_accelerator(recipe.train), folder)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """A test may make an error of whatever waits for the GPU; the next one starts afresh."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("stage", STAGES)
def test_no_step_between_lines_of_the_log_waits_for_the_gpu(
    stage: str, precision: str, tmp_path: Path, no_waiting: None
) -> None:
    run = started(tmp_path, stage, f"train.mixed_precision={precision}", "train.ema_decay=0.9")
    loop = TrainingLoop(run, run.feed.train(0))
    for _ in range(3):  # caches fill, kernels are chosen
        loop.step()
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(5):
        loop.step()


def one_batch() -> Batch:
    recipe = recipe_of(STAGES[1])
    source: Any = open_data(recipe).train
    return collate([source[SampleKey(0, index)] for index in range(4)])


def forwards(device: str, precision: torch.dtype, backbone: str) -> dict[str, torch.Tensor]:
    """Loss terms, lens and pixels of one step of fresh weights that do not predict the identity."""
    recipe = recipe_of(STAGES[1], f"model.backbone={backbone}")
    model = build_model(recipe)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parametric_head.parameters():
            weights += 0.01 * torch.randn(weights.shape, generator=generator)
    model = model.to(device)
    batch = to_device(one_batch(), torch.device(device))
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        out = forward_step(
            model,
            batch,
            get_backend(recipe.warp),
            CompositeLoss(recipe.loss),
            residual_enabled=True,
        )
    return {**out.parts, "params": out.prediction["params"], "image": out.warp["pred_image"]}


@pytest.mark.parametrize("backbone", ["tiny", "resnet34"])
def test_the_gpu_computes_what_the_cpu_does(backbone: str) -> None:
    expected = forwards("cpu", torch.float32, backbone)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = forwards("cuda", torch.float32, backbone)
    for name, value in expected.items():
        difference = (found[name].cpu() - value).abs().max().item()
        assert difference <= 1e-4 * max(1.0, value.abs().max().item()), name


@pytest.mark.parametrize("backbone", ["tiny", "resnet34"])
def test_a_step_in_bf16_is_near_one_in_fp32(backbone: str) -> None:
    exact = forwards("cuda", torch.float32, backbone)
    rounded = forwards("cuda", torch.bfloat16, backbone)
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32, name  # grids, warps and losses are never bf16
        if name != "image":
            torch.testing.assert_close(rounded[name], value, atol=0.02, rtol=0.05)
