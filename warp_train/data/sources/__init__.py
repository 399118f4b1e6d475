"""Where samples come from: `build_sources` makes the two that a recipe names."""

from pathlib import Path
from typing import Any, TypeAlias

from warp_train.data.config import DataConfig
from warp_train.data.lenses import AnalyticLenses, LensSampler
from warp_train.data.lensfun_lenses import lensfun_lenses
from warp_train.data.shards.layout import is_cache
from warp_train.data.shards.reading import cached_pairs, cached_photos
from warp_train.data.sources.files import at_most, check_disjoint, split_items
from warp_train.data.sources.manifest import PairItem, find_pairs
from warp_train.data.sources.pairs import Pairs
from warp_train.data.sources.photos import Photos, find_photos
from warp_train.data.sources.scenes import Scenes
from warp_train.data.sources.warps import with_warps
from warp_train.runtime.errors import WarpTrainError

Source: TypeAlias = Scenes | Photos | Pairs
"""Map-style: `len(source)`, and `source[SampleKey(epoch, index)]` is a `Sample`."""


def build_sources(config: DataConfig, seed: int) -> tuple[Source, Source]:
    """The training and the validation source of a recipe.

    Raises WarpTrainError, naming it, for a missing or empty folder, a manifest with a missing
    column or file, a group that is in both, or a line of `data.warps`. `external` has
    loaders instead: `load_external`.
    """
    if config.source == "scenes":
        lenses, val_lenses = _lens_samplers(config)
        return (
            Scenes(config.train_samples, config.size, lenses, seed=seed, split="train"),
            Scenes(config.val_samples, config.size, val_lenses, seed=seed, split="val"),
        )
    if config.source == "external" or config.root is None:
        raise WarpTrainError(f"data.source '{config.source}' is loaded by data.external")
    if config.source == "photos":
        return _photos(config, config.root, seed)
    return _pairs(config, config.root, seed)


def _lens_samplers(config: DataConfig) -> tuple[LensSampler, LensSampler]:
    """What bends the training and the validation samples."""
    if config.lenses == "lensfun":
        return lensfun_lenses(config.lensfun, config.lens)
    lenses = AnalyticLenses(config.lens)
    return lenses, lenses


def _photos(config: DataConfig, root: Path, seed: int) -> tuple[Photos, Photos]:
    if is_cache(root):
        train, val = cached_photos(root, config)
    elif config.val_root is None:
        found = find_photos(root, "data.root")
        train, val = split_items(found, config.val_fraction, f"data.root: {root}")
    else:
        train = find_photos(root, "data.root")
        val = find_photos(config.val_root, "data.val_root")
        check_disjoint(train, val)
    kept = at_most(val, config.val_samples)
    lenses, val_lenses = _lens_samplers(config)
    same: dict[str, Any] = {"seed": seed, "local_warp": config.local_warp}
    return (
        Photos(
            train,
            config.size,
            lenses,
            split="train",
            flip=config.flip,
            photometric=config.photometric,
            **same,
        ),
        Photos(kept, config.size, val_lenses, split="val", flip=False, **same),
    )


def _pairs(config: DataConfig, root: Path, seed: int) -> tuple[Pairs, Pairs]:
    train, val = cached_pairs(root, config) if is_cache(root) else _found_pairs(config, root)
    return (
        Pairs(train, config.size, seed=seed, flip=config.flip, photometric=config.photometric),
        Pairs(at_most(val, config.val_samples), config.size, seed=seed, flip=False),
    )


def _found_pairs(config: DataConfig, root: Path) -> tuple[list[PairItem], list[PairItem]]:
    found = find_pairs(root, "data.root")
    if config.val_root is not None:
        train, val = found, find_pairs(config.val_root, "data.val_root")
    elif any(item.split for item in found):
        train, val = _stated_split(found, root)
    else:
        train, val = split_items(found, config.val_fraction, f"data.root: {root}")
    check_disjoint(train, val)
    if config.warps is not None:
        train, val = with_warps(train, val, config.warps)
    return train, val


def _stated_split(found: list[PairItem], root: Path) -> tuple[list[PairItem], list[PairItem]]:
    """By the manifest's `split` column; rows that leave it empty are trained on."""
    train = [item for item in found if item.split != "val"]
    val = [item for item in found if item.split == "val"]
    for name, items in (("train", train), ("val", val)):
        if not items:
            raise WarpTrainError(f"data.root: {root}: column 'split' names no row '{name}'")
    return train, val
