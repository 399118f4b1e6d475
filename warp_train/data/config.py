"""The `data` section of a recipe: where samples come from and which lenses bend them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from warp_train.runtime.section import ModuleFunction, Section

NonNegative = Annotated[float, Field(ge=0)]


class LensConfig(Section):
    """The distribution that `scenes` and `photos` draw their lenses from.

    The radial curve is `1 + bend·r² + m·4(r² − r⁴) + w·20.8(r²/2 − 3r⁴/2 + r⁶)`. The last two
    terms vanish at the corner, so `bend` alone is the displacement of a corner. Every value is
    drawn uniformly. A lens that folds, or nearly folds, is drawn again. Real lenses have a bend
    within ±0.15, action cameras and ultra-wide phones within ±0.35.
    """

    bend: tuple[float, float] = (-0.35, 0.35)
    """[low, high] of the signed radial displacement at a corner of the corrected frame (radius 1),
    as a fraction of the radius. Negative values correct barrel distortion, positive ones
    pincushion. −0.5 … 0.6, low <= high."""

    early: tuple[float, float] = (0.0, 0.3)
    """[low, high] of the share of `bend` that is added to `m`. A positive share displaces points
    half way to the corner more than r² would; it correlates k1 and k2 as in real lenses.
    −1 … 1, low <= high."""

    moustache: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """Largest part of `m` that does not depend on `bend`: a displacement half way to the corner
    that vanishes at the corner, as a fraction of the radius. 0 … 0.2."""

    ripple: Annotated[float, Field(ge=0, le=0.05)] = 0.004
    """Largest third-order displacement `w`, as a fraction of the radius. 0 … 0.05."""

    tangential: Annotated[float, Field(ge=0, le=0.1)] = 0.002
    """Largest |p1| and |p2|, in half diagonals: the effect of a tilted lens element. 0 … 0.1."""

    decentre: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Largest |dcx| and |dcy|: distance of the lens's axis from the frame's centre, in half
    diagonals. 0 … 0.2."""

    straight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of samples without any distortion: most photos of this world are straight already.
    0 … 1."""

    ordinary: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share, of the others, whose lens is as lenses of ordinary cameras are: a bend of about −0.03,
    mostly between −0.11 and 0.02, with a small moustache. 0 … 1."""

    amplified: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share, of the others, with an ordinary lens made `amplify` times as strong: action cameras
    and phones. `bend`, `early`, `moustache` and `ripple` draw what `ordinary` and `amplified`
    leave. 0 … 1, at most 1 with `ordinary`."""

    amplify: tuple[float, float] = (1.5, 8.0)
    """[low, high] of the factor for `amplified`; its logarithm is drawn uniformly. 0.1 … 10."""

    min_det: Annotated[float, Field(ge=0.05, le=0.9)] = 0.3
    """Smallest allowed local area ratio (Jacobian determinant) of the backward map in the frame;
    0 would be a fold. 0.05 … 0.9."""

    @field_validator("bend", "early")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"low must not exceed high, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.bend[0] < -0.5 or self.bend[1] > 0.6:
            raise ValueError(f"bend must lie in -0.5 ... 0.6, got {list(self.bend)}")
        if self.early[0] < -1 or self.early[1] > 1:
            raise ValueError(f"early must lie in -1 ... 1, got {list(self.early)}")
        if self.ordinary + self.amplified > 1 + 1e-9:
            raise ValueError(
                f"ordinary and amplified must not exceed 1 together, got {self.ordinary:g} and "
                f"{self.amplified:g}"
            )
        if not 0.1 <= self.amplify[0] <= self.amplify[1] <= 10:
            raise ValueError(
                f"amplify must lie in 0.1 ... 10, low not above high, got {list(self.amplify)}"
            )
        return self


MakerNames = tuple[Annotated[str, Field(pattern=r"\w")], ...]


class LensfunConfig(Section):
    """The lensfun calibrations that bend `scenes` and `photos`. Rectilinear lenses only.

    A maker's name is lensfun's, or some successive words of it, in upper or lower case: `zeiss`
    includes Carl Zeiss. A name that matches no maker is an error.
    """

    focal: tuple[float, float] = (8.0, 35.0)
    """[low, high] of the focal length in mm as on a full frame (real focal length x crop factor),
    both included. Wide lenses distort the most. 1 … 3000, low <= high."""

    crop: tuple[float, float] = (0.5, 10.0)
    """[low, high] of the crop factor of the cameras that the lenses were calibrated on, both
    included: 1 is full frame, about 1.5 APS-C, 2 Four Thirds, 4 … 8 compacts and phones.
    0.1 … 20, low <= high."""

    makers: MakerNames = ()
    """Only lenses of these makers are used; empty: all makers."""

    exclude_makers: MakerNames = ()
    """Lenses of these makers are used neither in training nor in validation."""

    val_makers: MakerNames = ()
    """Makers whose lenses bend all validation samples and no training sample, so that validation
    uses only unseen lenses; `makers` does not restrict them. Empty: the same lenses in both."""

    real_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of samples with an unchanged calibration; in the others it is amplified. 0 … 1."""

    amplify: tuple[float, float] = (1.0, 1.0)
    """[low, high] of the factor that multiplies a calibration's distortion terms; its logarithm is
    drawn uniformly. With 2 … 6, ordinary lenses distort like action cameras and ultra-wide phones.
    A lens that folds, or nearly folds, is drawn again. 0.1 … 10, low <= high."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        spans = {"focal": (1.0, 3000.0), "crop": (0.1, 20.0), "amplify": (0.1, 10.0)}
        for name, (least, most) in spans.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name} must lie in {least:g} ... {most:g}, low not above high, "
                    f"got {[low, high]}"
                )
        return self


class DataConfig(Section):
    """The source of the samples, and how they are prepared for training."""

    source: Literal["scenes", "photos", "pairs", "external"] = "scenes"
    """`scenes`: drawn on the fly, needs no files; `photos`: any folder of straight photos, bent on
    the fly; `pairs`: distorted and corrected photos; `external`: your own loaders."""

    root: Path | None = None
    """Folder of the training files (`photos`, `pairs`; with all subfolders), or for `pairs` a .csv
    or .jsonl manifest. If the folder contains manifest.csv or manifest.jsonl, that manifest is
    used. It may also be a folder that `warp-train prepare` has written."""

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
    def files_root(self) -> Path:
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("photos", "pairs") and self.root is None:
            raise ValueError(f"source '{self.source}' needs data.root, a folder")
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
