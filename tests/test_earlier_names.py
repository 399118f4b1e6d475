"""Weights, averages, optimizer states and calibrations of earlier versions, by their names then."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from runs_helpers import as_if_killed_after, assert_same_weights, losses, train
from safetensors.torch import load_file, save_file

from warp_train.inference.predictor import load_predictor
from warp_train.models import from_pretrained
from warp_train.models.renamed import with_current_names
from warp_train.runtime.errors import WarpTrainError

STAGE = "stage2_hybrid"
EARLIER = {
    "parametric_head.uncertainty.": "parametric_head.doubt.",
    "parametric_head.plumb_line.log_weights.": "parametric_head.plumb_line.say.",
    "uncertainty_factor": "doubt_factor",
}
RENAMED_TENSORS = 6  # of a model: weights and biases of three layers


def earlier(text: str) -> str:
    for new, old in EARLIER.items():
        text = text.replace(new, old)
    return text


def as_earlier_versions_wrote_it(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        renamed = {earlier(name): value for name, value in tensors.items()}
        count = len(renamed.keys() - tensors.keys())
        assert count == {"optimizer": 3, "rng-0": 0}.get(path.stem, 1) * RENAMED_TENSORS, path
        save_file(renamed, path)
    for path in folder.glob("*.json"):
        text = path.read_text()
        assert earlier(text) != text, path
        content = json.loads(earlier(text))
        if path.name == "trainer_state.json":
            del content["recipe"]["loss"]["uncertainty_weight"]  # a key that they did not have
        path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    more = ("train.ema_decay=0.9", "train.max_steps=8", "validate.every_steps=6")
    assert train(STAGE, folder, *more, "checkpoint.every_steps=6") == 0
    return folder / STAGE


def test_a_run_of_an_earlier_version_resumes_bit_for_bit(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / STAGE
    as_if_killed_after(run, 6, broken)
    as_earlier_versions_wrote_it(broken / "checkpoints" / "step-000000006")
    more = ("train.ema_decay=0.9", "train.max_steps=8", "validate.every_steps=6")
    more = (*more, "checkpoint.every_steps=6", "--resume-from", "auto")
    assert train(STAGE, tmp_path, *more) == 0
    (change,) = [line for line in caplog.messages if line.startswith("changed since")]
    assert "output_dir" in change  # and no key that is new in this version
    assert_same_weights(run, broken)
    assert losses(broken) == losses(run)


def test_a_model_of_an_earlier_version_predicts_the_same(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "best", tmp_path / "earlier")
    as_earlier_versions_wrote_it(tmp_path / "earlier")
    model, before = (from_pretrained(path).eval() for path in (run / "best", tmp_path / "earlier"))
    assert before.uncertainty_factor == model.uncertainty_factor != 1
    image = torch.rand(1, 3, 64, 96)
    for name in ("params", "residual_flow", "uncertainty"):
        assert torch.equal(before(image)[name], model(image)[name])


def test_a_calibration_is_written_by_its_name_now(run: Path) -> None:
    trained_on = json.loads((run / "best" / "config.json").read_text())["trained_on"]
    assert trained_on["uncertainty_factor"] != 1
    assert "doubt_factor" not in trained_on


def test_a_tensor_by_both_names_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "best", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["parametric_head.doubt.out.bias"] = torch.zeros(7)
    save_file(tensors, path)
    with pytest.raises(WarpTrainError, match=r"parametric_head\.doubt\.out\.bias"):
        from_pretrained(tmp_path / "model")
    assert with_current_names({"a": 1, "parametric_head.doubt.b": 2}) == {
        "a": 1,
        "parametric_head.uncertainty.b": 2,
    }


def test_weights_have_the_hash_that_earlier_versions_gave_them(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "best", tmp_path / "earlier")
    as_earlier_versions_wrote_it(tmp_path / "earlier")
    digest = hashlib.sha256()
    for name, value in sorted(load_file(tmp_path / "earlier" / "model.safetensors").items()):
        digest.update(name.encode() + value.numpy().tobytes())
    for folder in (run / "best", tmp_path / "earlier"):
        assert load_predictor(folder, "cpu").model_hash == digest.hexdigest()[:16]
