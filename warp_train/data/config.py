"""The `data` section of a recipe: where samples come from. Its lenses are in `lens_config`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from warp_train.data.lens_config import LensConfig, LensfunConfig
from warp_train.runtime.section import ModuleFunction, Section

_CACHE_GB = 20.0
Url = Annotated[str, Field(pattern=r"^[A-Za-z][\w+.-]+://.")]
"""A place that is not on a disk of this machine, see `runtime.urls`."""


class DataConfig(Section):
    """The source of the samples, and how they are prepared for training."""

    source: Literal["scenes", "photos", "pairs", "external"] = "scenes"
    """`scenes`: drawn on the fly, needs no files; `photos`: any folder of straight photos, bent on
    the fly; `pairs`: distorted and corrected photos; `external`: your own loaders."""

    root: Url | Path | None = None
    """Folder of the training files (`photos`, `pairs`; with all subfolders), or for `pairs` a .csv
    or .jsonl manifest. If the folder contains manifest.csv or manifest.jsonl, that manifest is
    used. It may also be a folder that `warp-train prepare` has written, or the URL to which such a
    folder was copied, such as `s3://bucket/shards`: photos are then read by ranges of bytes."""

    cache_dir: Path | None = None
    """Folder for copies of photos that are read from a URL; processes and runs may share it. null:
    warp_train in `$XDG_CACHE_HOME` or ~/.cache."""

    cache_gb: Annotated[float, Field(ge=0)] = _CACHE_GB
    """Largest size of these copies in GB, >= 0; the least recently used ones are removed. n
    processes may exceed it by n/256 of it. 0: no copies. Runs that share the folder share the limit
    of the one that began last."""

    val_root: Path | None = None
    """The same for validation. null: `val_fraction` of the groups in `root` are held out."""

    warps: Path | None = None
    """File of lenses for `pairs`, by image id, as `warp-train recover` writes it. It gives every
    pair whose warp was recovered reliably its exact warp, and has precedence over the lens columns
    of a manifest."""

    recover: Literal["auto", "off"] = "auto"
    """`auto`: pairs without a warp are registered when a run starts, as `warp-train recover` does,
    unless `warps` is given. The result is kept in `output_dir`/recovered, so each pair is
    registered once. Pairs whose warp cannot be found are left out unless they are the majority.
    `off`: such pairs are learned from by the image terms alone."""

    external: ModuleFunction | None = None
    """`module:function` that returns (train_loader, val_loader); the working directory is
    importable."""

    size: tuple[Annotated[int, Field(ge=32, le=4096)], Annotated[int, Field(ge=32, le=4096)]] = (
        128,
        192,
    )
    """[height, width] of the training frames in pixels, 32 … 4096 each."""

    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Loading processes per training process; 0 loads in the training process itself."""

    train_samples: Annotated[int, Field(ge=1)] = 4096
    """Number of drawn scenes in an epoch (`scenes` only), >= 1."""

    val_samples: Annotated[int, Field(ge=1)] = 256
    """Number of drawn scenes to validate on; for the other sources, the largest number of
    validation samples. >= 1."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the groups (houses, shoots) held out when there is no `val_root`. 0 < x < 1."""

    flip: bool = True
    """Mirror half of the training photos and pairs left to right, together with their lenses."""

    photometric: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training samples that are changed to look like photos of another
    camera: all in tone and colour cast, some also turned grey, blurred, made noisy or compressed
    as JPEG. 0 … 1."""

    clutter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the drawn scenes that are as hard as photos: with many curved things, textures,
    parts out of focus, soft and sharpened cameras, and sometimes hardly a line (`scenes` only).
    0 … 1."""

    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Training stops when more than this share of an epoch's files cannot be read. 0 … 1."""

    lens: LensConfig = LensConfig()
    """The lenses that bend `scenes` and `photos`."""

    lenses: Literal["analytic", "lensfun", "pairs"] | Path = "analytic"
    """`analytic`: drawn from the distribution in the section `lens`; `lensfun`: calibrations of
    real lenses, selected by the section `lensfun`, with `tangential`, `decentre` and `min_det` of
    the section `lens` (needs `pip install 'warp_train[lensfun]'`); a file that `warp-train recover`
    has written: the lenses in it and others between them, with `min_det` of the section `lens`;
    `pairs`: the same with the lenses of the training pairs."""

    rebend: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training samples of `pairs` whose straight photo is bent again, by one of
    `lenses`: as many new pairs as there are steps. 0 … 1."""

    local_warp: Annotated[float, Field(ge=0, le=0.03)] = 0.0
    """Longest displacement, in half diagonals, of a smooth random warp on top of the lens of
    `photos`. It gives the residual head something to learn. 0 … 0.03."""

    lensfun: LensfunConfig = LensfunConfig()
    """The calibrations to draw from; only with `lenses: lensfun`."""

    @property
    def files_root(self) -> str | Path:
        """`root`, which is never None for `photos` and `pairs`."""
        assert self.root is not None
        return self.root

    @property
    def shown(self) -> float:
        """How large photos are shown to the network: a frame's sides as a share of the photo's,
        0 < x <= 1.

        Below 1 for `photos`, whose frames are random crops with a margin for what the lens reads.
        Drawn scenes are simpler than photos: a photo that is shown larger has edges as far apart as
        theirs, and the bends of its edges are measured more finely.
        """
        cropped = {"photos": 1.0, "pairs": self.rebend}.get(self.source, 0.0)
        return 0.7 if self.source == "scenes" else 1 - 0.2 * cropped

    @property
    def _copies_are_set(self) -> bool:
        return self.cache_dir is not None or self.cache_gb != _CACHE_GB

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("photos", "pairs") and self.root is None:
            raise ValueError(f"source '{self.source}' needs data.root, a folder")
        if not isinstance(self.root, str) and self._copies_are_set:
            raise ValueError("data.cache_dir and data.cache_gb have no effect: data.root is no URL")
        if self.source != "pairs" and self.warps is not None:
            raise ValueError(f"data.warps applies only to source 'pairs', got '{self.source}'")
        if self.source == "external" and self.external is None:
            raise ValueError("source 'external' needs data.external, a 'module:function'")
        if self.source != "scenes" and self.clutter > 0:
            raise ValueError(f"data.clutter applies only to source 'scenes', got '{self.source}'")
        if self.source == "external" and self.photometric > 0:
            raise ValueError("data.photometric has no effect on source 'external'")
        if self.source != "photos" and self.local_warp > 0:
            raise ValueError(
                f"data.local_warp applies only to source 'photos', got '{self.source}'"
            )
        if self.source == "pairs" and (self.lenses == "analytic") != (self.rebend == 0):
            raise ValueError(
                "data.rebend and data.lenses belong together for source 'pairs': rebend above 0, "
                "and lenses 'pairs', 'lensfun' or a file"
            )
        if self.source != "pairs" and self.rebend > 0:
            raise ValueError(f"data.rebend applies only to source 'pairs', got '{self.source}'")
        if self.source != "pairs" and self.lenses == "pairs":
            raise ValueError(f"data.lenses: pairs needs source 'pairs', got '{self.source}'")
        if self.source == "external" and self.lenses != "analytic":
            raise ValueError("data.lenses has no effect on source 'external'")
        if self.lenses != "analytic":
            self._leaves_the_shape_to("a file" if isinstance(self.lenses, Path) else self.lenses)
        if self.lenses != "lensfun" and self.lensfun != LensfunConfig():
            raise ValueError("data.lensfun has no effect without data.lenses: lensfun")
        return self

    def _leaves_the_shape_to(self, lenses: str) -> None:
        for name in ("bend", "early", "moustache", "ripple"):
            if getattr(self.lens, name) != getattr(LensConfig(), name):
                raise ValueError(
                    f"data.lens.{name} has no effect with data.lenses: {lenses}; remove it"
                )
