"""Models on disk and on the Hugging Face hub: `model.safetensors` and `config.json`, no pickle.

A folder may come from anywhere. Whatever it holds, loading it gives a model or a `WarpTrainError`:
files are looked at before they are read, and a header before what it promises is allocated.
"""

import json
import reprlib
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from pydantic import ConfigDict, StrictBool, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from warp_train.models.config import ModelConfig, TrainedOn
from warp_train.models.hybrid_model import HybridModel
from warp_train.models.model_card import model_card
from warp_train.runtime.errors import WarpTrainError
from warp_train.runtime.links import followed
from warp_train.runtime.section import Section, config_differences
from warp_train.weights import model_folder

MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"

_EARLIER = "parametric_head.plumb_line.mixing"
"""A tensor of networks whose lens was solved in another way, of versions before 0.2."""
_MAX_JSON_BYTES = 16 * 2**20
_MAX_QUOTE = 240


class Description(Section):
    """The contents of `config.json`; what a later version adds is passed over."""

    model_config = ConfigDict(extra="ignore")

    model: ModelConfig
    residual_enabled: StrictBool
    trained_on: TrainedOn | None


def model_description(model: HybridModel) -> dict[str, Any]:
    """What `config.json` holds: enough to build the network that the weights fit."""
    return Description(
        model=model.config, residual_enabled=model.residual_enabled, trained_on=model.trained_on
    ).model_dump(mode="json")


def save_pretrained(
    model: HybridModel,
    folder: Path,
    *,
    recipe: str | None = None,
    summary: Mapping[str, Any] | None = None,
    license_id: str | None = None,
    repo_id: str | None = None,
) -> None:
    """Writes `model.safetensors`, `config.json` and a model card into `folder`, made if need be.

    Args:
        recipe, summary, license_id, repo_id: for the card, see `model_card`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    description = model_description(model)
    card = model_card(
        description, recipe=recipe, summary=summary, license_id=license_id, repo_id=repo_id
    )
    save_file(state, folder / MODEL_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def from_pretrained(folder_or_id: str | Path) -> HybridModel:
    """Loads MODEL onto the CPU: `tiny`, which comes with the package, a checkpoint folder, a run
    folder (its `best`) or a hub id. Raises WarpTrainError if a file is missing, broken, or does not
    fit the network it describes."""
    folder = followed(model_folder(folder_or_id))
    best = followed(folder / "best")
    try:
        if best.is_dir():
            folder = best
        elif not folder.is_dir():
            folder = _download(str(folder_or_id))
    except OSError as error:
        raise WarpTrainError(f"{plain(folder)}: cannot be read ({error.strerror})") from error
    model = _build(folder / CONFIG_FILE)
    load_weights(model, folder, model_description(model))
    return model


def read_description(folder: Path) -> Description:
    """The network of a checkpoint folder, without its weights; WarpTrainError as above."""
    return _read_description(folder / CONFIG_FILE)


def load_weights(
    model: nn.Module, folder: Path, description: Mapping[str, Any], file: str = MODEL_FILE
) -> None:
    """Loads the weights of a folder made by training or by `save_pretrained` into `model`.

    Args and errors: as of `read_weights`.
    """
    model.load_state_dict(read_weights(model, folder, description, file))


def read_weights(
    model: nn.Module, folder: Path, description: Mapping[str, Any], file: str = MODEL_FILE
) -> dict[str, Tensor]:
    """The weights of such a folder, sure to fit `model`.

    Args:
        description: what `config.json` would hold for `model`.
        file: the weights' name in `folder`.

    Raises:
        WarpTrainError: the file is missing or damaged, or its tensors are not finite or not this
            model's; it names the first such tensor and the configuration keys that differ.
    """
    path = folder / file
    here = model.state_dict()
    wanted = {name: list(value.shape) for name, value in here.items()}
    found = tensor_shapes(path)
    if _EARLIER in found and _EARLIER not in wanted:
        raise WarpTrainError(
            f"{path}: written by an earlier version, whose network was different; train again with "
            "the recipe.yaml of the run"
        )
    for name in (*wanted, *found):
        if wanted.get(name) != found.get(name):
            raise WarpTrainError(
                f"{path}: not the weights of this {description['model']['backbone']}: "
                f"{plain(name)} is {plain(found.get(name, 'absent'))} there and "
                f"{wanted.get(name, 'absent')} here"
                + _differing_keys(folder / CONFIG_FILE, description)
            )
    tensors = read_tensors(path)
    for name, value in tensors.items():
        if value.dtype != here[name].dtype:
            there, ours = (
                str(kind).removeprefix("torch.") for kind in (value.dtype, here[name].dtype)
            )
            raise WarpTrainError(f"{path}: {name} is {there} there and {ours} here")
        if not torch.isfinite(value).all():
            raise WarpTrainError(f"{path}: {name} has values that are not finite")
    return tensors


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU; WarpTrainError if it cannot be read."""
    _expect_file(path)
    try:
        return load_file(path)
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WarpTrainError(f"{path}: damaged or truncated ({plain(error)})") from error


def read_json(path: Path) -> Any:
    """The contents of a JSON file; WarpTrainError if it cannot be read."""
    _expect_file(path, at_most=_MAX_JSON_BYTES)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise WarpTrainError(f"{path}: not a complete JSON file ({plain(error)})") from error
    except RecursionError as error:
        raise WarpTrainError(f"{path}: not a JSON file of ours (nested too deeply)") from error


def push_to_hub(
    model: HybridModel,
    repo_id: str,
    *,
    private: bool = False,
    recipe: str | None = None,
    summary: Mapping[str, Any] | None = None,
    license_id: str | None = None,
) -> str:
    """Uploads the model and its card to the hub under `repo_id`; returns the page's address.

    Args:
        recipe, summary, license_id: for the card, see `model_card`. They become public with it.

    Raises:
        WarpTrainError: there is no connection, no login, or no right to write there.
    """
    api = huggingface_hub.HfApi()
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            save_pretrained(
                model,
                Path(folder),
                recipe=recipe,
                summary=summary,
                license_id=license_id,
                repo_id=repo_id,
            )
            api.upload_folder(repo_id=repo_id, folder_path=folder)
    except (OSError, ValueError) as error:  # the hub's own errors are both
        reason = str(error).strip().partition("\n")[0]
        raise WarpTrainError(f"{repo_id}: cannot be uploaded ({reason})") from error
    return str(url)


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """The tensors that a safetensors file announces, before any of them is read."""
    _expect_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise WarpTrainError(f"{path}: damaged or truncated ({plain(error)})") from error
    return shapes


def _expect_file(path: Path, at_most: int | None = None) -> None:
    """Refuses what a read would hang on or drown in: a pipe, a device, far too many bytes."""
    try:
        found = path.stat()
    except OSError as error:
        raise WarpTrainError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise WarpTrainError(f"{path}: cannot be read (not a regular file)")
    if at_most is not None and found.st_size > at_most:
        raise WarpTrainError(f"{path}: {found.st_size} bytes; at most {at_most} are read")


def plain(untrusted: object) -> str:
    """Text from a file on one line, without control characters and not endless."""
    text = untrusted if isinstance(untrusted, str) else str(untrusted)
    shown = "".join(char if char.isprintable() else "?" for char in text[:_MAX_QUOTE])
    return shown if len(text) <= _MAX_QUOTE else f"{shown}…"


def _differing_keys(path: Path, description: Mapping[str, Any]) -> str:
    if not path.exists():
        return ""
    try:
        saved = {"model": {**read_json(path)["model"]}}
        differing = ", ".join(config_differences(saved, {"model": description["model"]}))
    except (KeyError, TypeError, RecursionError):
        return f" ({path.name} there does not describe a warp_train model)"
    return f" ({plain(differing)})" if differing else ""


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


def _read_description(path: Path) -> Description:
    try:
        return Description.model_validate(read_json(path))
    except ValidationError as error:
        raise WarpTrainError(f"{path}: {_complaint(error)}") from error


def _build(path: Path) -> HybridModel:
    description = _read_description(path)
    return HybridModel(
        # The weights come from the checkpoint.
        description.model.model_copy(update={"pretrained": False}),
        residual_enabled=description.residual_enabled,
        trained_on=description.trained_on,
    )


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    key = plain(".".join(map(str, first["loc"])))
    if not key or first["type"] == "missing":
        return (
            f"does not describe a warp_train model ({f'{key} is missing' if key else 'no object'})"
        )
    return f"{key}: {plain(first['msg'])} ({plain(reprlib.repr(first['input']))})"
