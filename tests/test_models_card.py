"""The model card, and the way to the hub and back."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

from warp_train.models import (
    HybridModel,
    ModelConfig,
    TrainedOn,
    from_pretrained,
    model_description,
    push_to_hub,
    save_pretrained,
)
from warp_train.models.model_card import model_card
from warp_train.runtime.errors import WarpTrainError

TRAINED = TrainedOn(
    stage="stage3_finetune", size=(96, 144), shown=0.75, fixed_warp=(0.01,) * 7 + (1.1,)
)
SUMMARY: dict[str, Any] = {
    "identity": {"epe_px": 3.63, "loss/total": 3.2435, "warp_negative_det_pct": 0.0},
    "fixed_warp": None,
    "stages": {"stage3_finetune": {"epe_px": 1.362, "loss/total": None}},
}


def trained_model() -> HybridModel:
    model = HybridModel(ModelConfig(), trained_on=TRAINED).eval()
    torch.nn.init.normal_(model.parametric_head.votes.weight)
    return model


def same(one: HybridModel, other: HybridModel) -> bool:
    states = one.state_dict(), other.state_dict()
    equal = all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    return equal and model_description(one) == model_description(other)


def header_and_body(card: str) -> tuple[dict[str, Any], str]:
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


def test_a_card_says_what_is_known() -> None:
    card = model_card(
        model_description(trained_model()),
        recipe="stage: stage3_finetune\n",
        summary=SUMMARY,
        license_id="apache-2.0",
        repo_id="me/straight",
    )
    header, body = header_and_body(card)
    assert header["library_name"] == "warp_train"
    assert header["pipeline_tag"] == "image-to-image"
    assert header["license"] == "apache-2.0"
    assert "frames of 96 × 144 px" in body
    assert "area of 128 × 192 px" in body  # frames showed three quarters of a photo's sides
    assert "lens-distortion" in header["tags"]
    for part in (
        "`tiny`",
        "`stage3_finetune`",
        "96 × 144",
        "warp-train rectify me/straight",
        'Straightener.from_pretrained("me/straight")',
        "```yaml\nstage: stage3_finetune\n```",
        "| identity (doing nothing) | 3.630 | 3.2435 | 0.000 |",
        "| fixed warp (the same for every photo) | – | – | – |",
        "| `stage3_finetune` | 1.362 | – | – |",
        "| `s` | 0.6 | 1.4 |",
    ):
        assert part in body


def test_a_card_of_a_model_that_nothing_is_known_of() -> None:
    card = model_card(model_description(HybridModel(residual_enabled=False)))
    header, body = header_and_body(card)
    assert "license" not in header
    assert "Scores" not in body
    assert "Recipe" not in body
    assert "residual flow" not in body
    assert "warp-train rectify MODEL" in body


def test_the_python_of_a_card_runs(tmp_path: Path) -> None:
    from data_helpers import textured

    save_pretrained(trained_model(), tmp_path / "model")
    card = model_card(model_description(trained_model()), repo_id=str(tmp_path / "model"))
    program = card.split("```python\n")[1].split("```")[0]
    names = {"rgb": textured(96, 144)}
    exec(program, names)
    result = names["result"]
    assert result.image.shape == (96, 144, 3)
    assert result.expected_error_px > 0
    assert len(result.params) == 8


def test_what_a_card_is_told_stays_inert() -> None:
    evil = "]\n---\n```\n# <script>alert(1)</script> | `x` |\n````\n\x1b[2J"
    card = model_card(
        model_description(trained_model()),
        recipe=evil,
        summary={"identity": evil, "stages": {evil: {"epe_px": evil}, "b": evil}},
        repo_id=evil,
    )
    assert "\x1b" not in card
    assert "`````yaml\n]\n---\n```\n" in card
    outside = card.split("`````")
    assert len(outside) == 3
    assert "<script>" not in outside[0] + outside[2]
    assert header_and_body(card)[0]["library_name"] == "warp_train"
    for licence in (evil, "MIT\nx: y", ""):
        with pytest.raises(WarpTrainError, match="license"):
            model_card(model_description(trained_model()), license_id=licence)


def test_to_the_hub_and_back_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "hub"
    created: list[tuple[str, bool]] = []

    class FakeApi:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
            assert exist_ok
            created.append((repo_id, private))
            return f"https://hub.test/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
            Path(folder_path).rename(hub)
            Path(folder_path).mkdir()  # the caller removes it

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert repo_id == "me/straight"
        assert sorted(allow_patterns) == ["config.json", "model.safetensors"]
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    model = trained_model()
    url = push_to_hub(model, "me/straight", private=True, recipe="seed: 1", summary=SUMMARY)
    assert url == "https://hub.test/me/straight"
    assert created == [("me/straight", True)]
    assert sorted(p.name for p in hub.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    card = (hub / "README.md").read_text(encoding="utf-8")
    assert "me/straight" in card
    assert "seed: 1" in card
    again = from_pretrained("me/straight").eval()
    assert same(again, model)
    assert again.trained_on == TRAINED
    assert same(from_pretrained(hub), model)
    image = torch.rand(1, 3, 96, 144)
    for name in ("params", "residual_flow"):
        assert torch.equal(again(image)[name], model(image)[name])  # type: ignore[literal-required]


def test_an_upload_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLogin:
        def create_repo(self, *args: object, **kwargs: object) -> str:
            raise OSError("401: no token\nand more")

    monkeypatch.setattr(huggingface_hub, "HfApi", NoLogin)
    with pytest.raises(WarpTrainError, match=r"^me/x: cannot be uploaded \(401: no token\)$"):
        push_to_hub(HybridModel(), "me/x")


def test_a_run_folder_is_its_best_checkpoint(tmp_path: Path) -> None:
    model = trained_model()
    step = tmp_path / "checkpoints" / "step-000000010"
    save_pretrained(model, step)
    save_pretrained(HybridModel(), tmp_path / "checkpoints" / "step-000000020")
    (tmp_path / "best").symlink_to(Path("checkpoints") / step.name)
    assert same(from_pretrained(tmp_path), model)
    assert same(from_pretrained(str(step)), model)
    config = json.loads((step / "config.json").read_text())
    assert config["trained_on"]["fixed_warp"] == list(TRAINED.fixed_warp or ())
