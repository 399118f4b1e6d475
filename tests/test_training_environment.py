"""What `accelerate launch` asks for in the environment, beside the recipe: refused, or one line."""

import logging
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)
from runs_helpers import losses, one_line_error, train

from warp_train.recipe.sections import TrainConfig
from warp_train.runtime.errors import WarpTrainError
from warp_train.training import acceleration
from warp_train.training.acceleration import build_accelerator
from warp_train.training.launch_environment import overruled, refuse_other_strategies

STAGE = "stage1_param_only"
FEW = ("train.max_steps=1", "data.val_samples=1", "data.train_samples=4")
REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
    "ACCELERATE_IN_TPU_POD": "TPUs",
}


def launched(*options: str) -> dict[str, str]:
    """The variables that `accelerate launch` sets for these options, as Accelerate itself does."""
    parser = launch_command_parser()
    port = ("--num_machines", "1", "--num_processes", "2", "--main_process_port", "0")
    arguments, _, _ = _validate_launch_command(parser.parse_args([*port, *options, "train.py"]))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""
        given: dict[str, str] = prepare_deepspeed_cmd_env(arguments)[1]
    elif arguments.use_fsdp or arguments.use_megatron_lm or arguments.multi_gpu:
        given = prepare_multi_gpu_env(arguments)
    else:
        given = prepare_simple_launcher_cmd_env(arguments)[1]
    return {name: value for name, value in given.items() if name.startswith("ACCELERATE_")}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--use_fsdp"], "FSDP"),
        (["--use_fsdp", "--fsdp_version=2"], "FSDP"),
        (["--use_deepspeed"], "DeepSpeed"),
        (["--use_megatron_lm"], "Megatron-LM"),
    ],
)
def test_another_way_to_distribute_is_refused_by_its_name(options: list[str], name: str) -> None:
    with pytest.raises(WarpTrainError, match=f"does not support {name}; .*launch/multi_gpu") as e:
        refuse_other_strategies(launched(*options))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("options", [[], ["--multi_gpu"], ["--cpu"], ["--mixed_precision", "no"]])
def test_an_ordinary_launch_is_neither_refused_nor_commented(options: list[str]) -> None:
    environment = launched(*options)
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    refuse_other_strategies(environment)
    assert list(overruled(TrainConfig(mixed_precision="bf16"), environment)) == []


@pytest.mark.parametrize("variable", REFUSED)
def test_it_is_refused_before_anything_starts(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, "true")
    monkeypatch.setattr(acceleration, "Accelerator", None)  # is not reached
    assert train(STAGE, tmp_path / "runs", *FEW) == 1
    assert f"{variable}=true: training does not support {REFUSED[variable]}" in one_line_error(
        capsys
    )
    assert not (tmp_path / "runs").exists()
    with pytest.raises(WarpTrainError, match=variable):
        build_accelerator(TrainConfig())  # `bench` has it from here
    monkeypatch.setenv(variable, "false")
    refuse_other_strategies()


def test_devices_beside_the_recipe_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WarpTrainError, match=r"ACCELERATE_TORCH_DEVICE=xpu: .*train.device"):
        refuse_other_strategies({"ACCELERATE_TORCH_DEVICE": "xpu"})
    monkeypatch.setattr("warp_train.training.launch_environment.is_torch_xla_available", lambda: 1)
    with pytest.raises(WarpTrainError, match=r"torch_xla is installed.*USE_TORCH_XLA=0"):
        refuse_other_strategies({})


def test_what_the_recipe_overrules_has_no_effect_and_is_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(STAGE, tmp_path / "plain", *FEW) == 0
    assert "has no effect" not in caplog.text
    asked = launched("--mixed_precision", "bf16", "--dynamo_backend", "inductor")
    for variable, value in {**asked, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}.items():
        monkeypatch.setenv(variable, value)
    assert train(STAGE, tmp_path / "asked", *FEW) == 0
    assert losses(tmp_path / "asked" / STAGE) == losses(tmp_path / "plain" / STAGE)
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "has no effect" in line] == [
        "ACCELERATE_MIXED_PRECISION=bf16 has no effect: the recipe's train.mixed_precision"
        " applies (no)",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4 has no effect: the recipe's "
        "train.grad_accum_steps applies (1)",
        "ACCELERATE_DYNAMO_BACKEND=inductor has no effect: the recipe's train.compile "
        "applies (false)",
    ]


def test_gradients_are_divided_once_and_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    accelerator = build_accelerator(TrainConfig(device="cpu"))
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward(3 * weight.sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3
    model = torch.nn.Linear(2, 2)
    assert accelerator.prepare(model) is model


def test_the_environment_may_ask_for_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`accelerate launch --cpu` on a machine with a GPU; fp16 needs one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with caplog.at_level(logging.WARNING):
        environment = launched("--cpu")
        monkeypatch.setenv("ACCELERATE_USE_CPU", environment["ACCELERATE_USE_CPU"])
        accelerator = build_accelerator(TrainConfig(device="cuda", mixed_precision="fp16"))
    assert accelerator.device.type == "cpu"
    assert accelerator.mixed_precision == "no"
    assert "train.device: cuda is not available here; training on the CPU" in caplog.text
