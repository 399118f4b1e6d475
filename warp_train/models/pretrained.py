"""Models on disk and on the Hugging Face hub: `model.safetensors` and `config.json`, no pickle."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from warp_train.errors import WarpTrainError
from warp_train.models.config import ModelConfig, TrainedOn
from warp_train.models.hybrid_model import HybridModel
from warp_train.section import config_differences

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


def model_description(model: HybridModel) -> dict[str, Any]:
    """What `config.json` holds: enough to build the network that the weights fit."""
    trained_on = model.trained_on.model_dump(mode="json") if model.trained_on else None
    return {
        "model": model.config.model_dump(mode="json"),
        "residual_enabled": model.residual_enabled,
        "trained_on": trained_on,
    }


def save_pretrained(model: HybridModel, folder: Path) -> None:
    """Writes `model.safetensors` and `config.json` into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(model_description(model), indent=2) + "\n")


def from_pretrained(folder_or_id: str | Path) -> HybridModel:
    """Loads MODEL onto the CPU: a checkpoint folder, a run folder (its `best`) or a hub id.

    Raises:
        WarpTrainError: if a file is missing, broken, or does not fit the network it describes.
    """
    folder = Path(folder_or_id)
    if (folder / "best").is_dir():
        folder = folder / "best"
    elif not folder.is_dir():
        folder = _download(str(folder_or_id))
    model = _build(folder / CONFIG_FILE)
    load_weights(model, folder, model_description(model))
    return model


def load_weights(
    model: nn.Module, folder: Path, description: Mapping[str, Any], file: str = MODEL_FILE
) -> None:
    """Loads the weights of a folder made by training or by `save_pretrained` into `model`.

    Args:
        description: what `config.json` would hold for `model`.
        file: the weights' name in `folder`.

    Raises:
        WarpTrainError: the file is missing or damaged, or its tensors are not finite or not this
            model's; it names the first such tensor and the configuration keys that differ.
    """
    path = folder / file
    tensors = read_tensors(path)
    here = {name: list(value.shape) for name, value in model.state_dict().items()}
    there = {name: list(value.shape) for name, value in tensors.items()}
    for name in (*here, *there):
        if here.get(name) != there.get(name):
            raise WarpTrainError(
                f"{path}: not the weights of this {description['model']['backbone']}: {name} is "
                f"{there.get(name, 'absent')} there and {here.get(name, 'absent')} here"
                + _differing_keys(folder / CONFIG_FILE, description)
            )
        if not torch.isfinite(tensors[name]).all():
            raise WarpTrainError(f"{path}: {name} has values that are not finite")
    model.load_state_dict(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU; WarpTrainError if it cannot be read."""
    try:
        return load_file(path)
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WarpTrainError(f"{path}: damaged or truncated ({error})") from error


def read_json(path: Path) -> Any:
    """The contents of a JSON file; WarpTrainError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise WarpTrainError(f"{path}: not a complete JSON file ({error})") from error


def push_to_hub(model: HybridModel, repo_id: str, *, private: bool = False) -> str:
    """Uploads the model to the hub under `repo_id` and returns the page's address."""
    api = huggingface_hub.HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, Path(folder))
        api.upload_folder(repo_id=repo_id, folder_path=folder)
    return str(url)


def _differing_keys(path: Path, description: Mapping[str, Any]) -> str:
    if not path.exists():
        return ""
    try:
        saved = {"model": {**read_json(path)["model"]}}
    except (KeyError, TypeError):
        return f" ({path.name} there does not describe a warp_train model)"
    differing = config_differences(saved, {"model": description["model"]})
    return f" ({', '.join(differing)})" if differing else ""


def _download(repo_id: str) -> Path:
    try:
        return Path(
            huggingface_hub.snapshot_download(repo_id, allow_patterns=[MODEL_FILE, CONFIG_FILE])
        )
    except (OSError, ValueError) as error:  # the hub's own errors are both
        reason = str(error).partition("\n")[0]
        raise WarpTrainError(
            f"{repo_id}: neither a folder here nor a model on a hub within reach ({reason})"
        ) from error


def _build(path: Path) -> HybridModel:
    try:
        description = read_json(path)
        config = ModelConfig.model_validate(description["model"]).model_copy(
            update={"pretrained": False}  # the weights come from the checkpoint
        )
        known = description["trained_on"]
        return HybridModel(
            config,
            residual_enabled=bool(description["residual_enabled"]),
            trained_on=None if known is None else TrainedOn.model_validate(known),
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        section = "trained_on" if error.title == TrainedOn.__name__ else "model"
        raise WarpTrainError(
            f"{path}: {section}.{key}: {first['msg']} ({first['input']!r})"
        ) from error
    except (KeyError, TypeError) as error:
        raise WarpTrainError(f"{path}: does not describe a warp_train model ({error})") from error
