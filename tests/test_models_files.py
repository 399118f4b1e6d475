"""Models on disk: round trips, damaged files, and ImageNet weights."""

import urllib.error
from pathlib import Path

import huggingface_hub
import pytest
import torch
import torchvision
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from warp_train.models import (
    HybridModel,
    ModelConfig,
    from_pretrained,
    load_weights,
    model_description,
    save_pretrained,
)
from warp_train.runtime.errors import WarpTrainError


def test_pretrained_without_network_says_what_is_missing_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(WarpTrainError) as caught:
        HybridModel(ModelConfig(backbone="resnet34", pretrained=True))
    message = str(caught.value)
    assert "\n" not in message
    for part in ("model.pretrained", "resnet34", "no route to host", str(tmp_path), "false"):
        assert part in message


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50"])
def test_pretrained_starts_from_the_weights_in_torch_home(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = getattr(torchvision.models, backbone)()
    url = torchvision.models.get_model_weights(backbone).DEFAULT.url
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub" / "checkpoints" / Path(url).name)
    config = ModelConfig(backbone=backbone, pretrained=True)  # type: ignore[arg-type]
    ours = HybridModel(config).state_dict()
    assert torch.equal(ours["backbone.photo.weight"][:, :3], source.conv1.weight)
    taken = [value for name, value in ours.items() if name.startswith("backbone.body.")]
    given = {
        name: value
        for name, value in source.state_dict().items()
        if not name.startswith(("conv1.", "layer4.", "fc."))
    }
    assert len(taken) == len(given)
    assert all(torch.equal(a, b) for a, b in zip(taken, given.values(), strict=True))


def test_saved_models_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = HybridModel(ModelConfig(backbone="resnet34"), residual_enabled=False).eval()
    torch.nn.init.normal_(model.parametric_head.votes.weight)
    save_pretrained(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    again = from_pretrained(tmp_path).eval()
    assert again.config == model.config
    assert again.residual_enabled is False
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    image = torch.rand(1, 3, 64, 96)
    assert torch.equal(again(image)["params"], model(image)["params"])


def _break_truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _break_backbone(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("tiny", "vgg99"))


def _break_architecture(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("tiny", "resnet34"))


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _break_json(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:-10])


def _break_bound(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"k1": 0.8', '"k1": -0.8'))


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _break_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["parametric_head.votes.bias"] = torch.zeros(9)
    save_file(tensors, folder / "model.safetensors")


def _add_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "fc.weight": torch.zeros(2, 3)}, folder / "model.safetensors")


def _break_nan(folder: Path) -> None:
    model = HybridModel()
    torch.nn.init.constant_(model.parametric_head.votes.bias, float("nan"))  # type: ignore[arg-type]
    save_pretrained(model, folder)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_break_truncate, r"model\.safetensors: damaged or truncated"),
        (_remove_weights, r"model\.safetensors: cannot be read \(.*No such file"),
        (_break_shape, r"parametric_head\.votes\.bias is \[9\] there and \[16\] here"),
        (_add_tensor, r"fc\.weight is \[2, 3\] there and absent here"),
        (_break_nan, r"parametric_head\.votes\.bias has values that are not finite"),
        (_break_backbone, r"config\.json: model\.backbone: .*'tiny', 'resnet34'.*vgg99"),
        (_break_architecture, r"not the weights of this resnet34: backbone\."),
        (_break_bound, r"config\.json: model\.param_bounds\.k1: .*greater than 0.*-0\.8"),
        (_break_config, r"config\.json: does not describe a warp_train model"),
        (_break_json, r"config\.json: not a complete JSON file"),
        (_remove_config, r"config\.json: cannot be read \(No such file"),
    ],
)
def test_damaged_models_fail_in_one_clear_line(tmp_path: Path, damage: object, named: str) -> None:
    save_pretrained(HybridModel(), tmp_path)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(WarpTrainError, match=named) as caught:
        from_pretrained(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_other_weights_to_start_from_name_what_differs(tmp_path: Path) -> None:
    save_pretrained(HybridModel(ModelConfig(backbone="resnet34")), tmp_path)
    tiny = HybridModel()
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    with pytest.raises(WarpTrainError) as caught:
        load_weights(tiny, tmp_path, model_description(tiny))
    message = str(caught.value)
    assert "(model.backbone: resnet34 -> tiny)" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())


def test_another_programs_weights_are_refused(tmp_path: Path) -> None:
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architectures": ["Other"]}')
    tiny = HybridModel()
    with pytest.raises(WarpTrainError, match="does not describe a warp_train model"):
        load_weights(tiny, tmp_path, model_description(tiny))


def test_a_residual_switched_on_takes_the_weights_of_a_stage_without(tmp_path: Path) -> None:
    first = HybridModel(residual_enabled=False)
    torch.nn.init.normal_(first.parametric_head.votes.weight)
    save_pretrained(first, tmp_path)
    second = HybridModel(residual_enabled=True)
    load_weights(second, tmp_path, model_description(second))
    image = torch.rand(1, 3, 32, 48)
    assert torch.equal(first(image)["params"], second(image)["params"])
    assert (second(image)["residual_flow"] == 0).all()


def test_neither_a_folder_nor_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise LocalEntryNotFoundError("no connection\nand a second line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        WarpTrainError, match=r"^some/model: neither a folder.*no connection"
    ) as caught:
        from_pretrained("some/model")
    assert "\n" not in str(caught.value)


def test_weights_of_an_earlier_version_are_refused_with_the_way_to_new_ones(
    tmp_path: Path,
) -> None:
    save_pretrained(HybridModel(), tmp_path)
    path = tmp_path / "model.safetensors"
    prefix = "parametric_head.plumb_line."
    tensors = {
        name.replace("edge_weights.", ""): value
        for name, value in load_file(path).items()
        if not name.startswith((f"{prefix}shrinkage.", f"{prefix}edge_weights.log_change"))
    }
    save_file({**tensors, f"{prefix}mixing": torch.zeros(3, 3)}, path)
    with pytest.raises(WarpTrainError, match=r"an earlier version, whose network .* train again"):
        from_pretrained(tmp_path)
