"""The `data` section of a recipe: where samples come from and which lenses bend them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from warp_train.runtime.section import ModuleFunction, Section

NonNegative = Annotated[float, Field(ge=0)]


class LensConfig(Section):
    """The distribution that `scenes` and `photos` draw their lenses from.

    The radial curve is `1 + bend·r² + m·4(r² − r⁴) + w·20.8(r²/2 − 3r⁴/2 + r⁶)`: the last two
    vanish at the corner, so that `bend` alone says how far a corner moves. Every value is drawn
    uniformly; a lens that folds, or nearly does, is redrawn. Real lenses: bend within ±0.15;
    action cameras and ultra-wide phones: within ±0.35.
    """

    bend: tuple[float, float] = (-0.35, 0.35)
    """Signed radial displacement at a corner (radius 1) of the corrected frame's lens, as a
    fraction of the radius; negative mends barrel, positive pincushion. −0.5 … 0.6, low <= high."""

    early: tuple[float, float] = (0.0, 0.3)
    """Share of `bend` added to `m`: how much sooner than r² the bend sets in, which ties k1 and k2
    together as real lenses do. −1 … 1, low <= high."""

    moustache: Annotated[float, Field(ge=0, le=0.2)] = 0.02
    """Largest part of `m` that does not depend on the bend: displacement half way to the corner
    that is undone at the corner, as a fraction of the radius. 0 … 0.2."""

    ripple: Annotated[float, Field(ge=0, le=0.05)] = 0.004
    """Largest third-order displacement `w`, as a fraction of the radius. 0 … 0.05."""

    tangential: Annotated[float, Field(ge=0, le=0.1)] = 0.002
    """Largest |p1| and |p2|: a tilted element, in units of the half diagonal. 0 … 0.1."""

    decentre: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    """Largest |dcx| and |dcy|: the lens's axis off the frame's centre, in half diagonals.
    0 … 0.2."""

    min_det: Annotated[float, Field(ge=0.05, le=0.9)] = 0.3
    """Smallest allowed local area change of the backward map in the frame; 0 would be a fold.
    0.05 … 0.9."""

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
        return self


MakerNames = tuple[Annotated[str, Field(pattern=r"\w")], ...]


class LensfunConfig(Section):
    """Which of lensfun's calibrations bend `scenes` and `photos`. Rectilinear lenses only.

    A maker is named as lensfun does, in any case, or by some of its words in their order: `zeiss`
    is also Carl Zeiss. A name that it does not have is an error.
    """

    focal: tuple[float, float] = (8.0, 35.0)
    """Focal lengths in mm as on a full frame (real focal length x crop factor), both included:
    wide lenses bend the most. 1 … 3000, low <= high."""

    crop: tuple[float, float] = (0.5, 10.0)
    """Crop factors of the cameras that the lenses were calibrated on, both included: 1 full frame,
    about 1.5 APS-C, 2 Four Thirds, 4 … 8 compacts and phones. 0.1 … 20, low <= high."""

    makers: MakerNames = ()
    """Lenses of these makers only; empty: all makers."""

    exclude_makers: MakerNames = ()
    """Lenses of these makers neither in training nor in validation."""

    val_makers: MakerNames = ()
    """Makers whose lenses bend all validation samples and no training sample, so that every
    validation lens is new; `makers` does not restrict them. Empty: the same lenses in both."""

    real_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of samples with the calibration as it stands; the others amplify it. 0 … 1."""

    amplify: tuple[float, float] = (1.0, 1.0)
    """Span of the factor that multiplies a calibration's distortion terms, drawn uniformly in its
    logarithm: 2 … 6 makes action cameras and ultra-wide phones of ordinary lenses. A lens that
    folds, or nearly does, is redrawn. 0.1 … 10, low <= high."""

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
    """Where the samples come from."""

    source: Literal["scenes", "photos", "pairs", "external"] = "scenes"
    """`scenes`: drawn on the fly, needs no files; `photos`: any folder of straight photos, bent on
    the fly; `pairs`: distorted and corrected photos; `external`: your own loaders."""

    root: Path | None = None
    """Folder of the training files (`photos`, `pairs`; searched in depth), or for `pairs` a .csv or
    .jsonl manifest. A folder that holds manifest.csv or manifest.jsonl uses it, and one that
    `warp-train prepare` has written is trained from as it is."""

    val_root: Path | None = None
    """Same for validation. Without it, `val_fraction` of the groups in `root` is held out."""

    warps: Path | None = None
    """File of lenses for `pairs`, by image id, as `warp-train recover` writes it: every pair that
    it is sure of gets its exact warp. It goes before the lens columns of a manifest."""

    external: ModuleFunction | None = None
    """`module:function` that returns (train_loader, val_loader); the working directory is
    importable."""

    size: tuple[Annotated[int, Field(ge=32, le=4096)], Annotated[int, Field(ge=32, le=4096)]] = (
        128,
        192,
    )
    """[height, width] in pixels that the network trains on, 32 … 4096 each."""

    workers: Annotated[int, Field(ge=0, le=256)] = 2
    """Loading processes per training process; 0 loads in the training process itself."""

    train_samples: Annotated[int, Field(ge=1)] = 4096
    """Drawn scenes that count as one epoch (`scenes` only)."""

    val_samples: Annotated[int, Field(ge=1)] = 256
    """Drawn scenes to validate on; for the other sources, at most so many."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the groups (houses, shoots) held out when there is no `val_root`. 0 < x < 1."""

    flip: bool = True
    """Mirror half of the training photos and pairs left to right, the lens along with them."""

    photometric: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training photos and pairs that get another look, as if another camera had taken
    them: tone, colour cast, some grey, blurred, noisy or compressed as JPEG. 0 … 1."""

    max_bad_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Training stops when more than this share of an epoch's files could not be read. 0 … 1."""

    lens: LensConfig = LensConfig()
    """The lenses that bend `scenes` and `photos`."""

    lenses: Literal["analytic", "lensfun"] = "analytic"
    """`analytic`: drawn as `lens` says; `lensfun`: calibrations of real lenses, chosen as `lensfun`
    says (needs the extra `lensfun`), with the tangential, decentre and min_det of `lens`."""

    local_warp: Annotated[float, Field(ge=0, le=0.03)] = 0.0
    """Longest displacement of a smooth random warp on top of the lens of `photos`, in half
    diagonals: something for the residual to learn. 0 … 0.03."""

    lensfun: LensfunConfig = LensfunConfig()
    """Which calibrations; only with `lenses: lensfun`."""

    @property
    def files_root(self) -> Path:
        """`root`, which a source over files always has."""
        assert self.root is not None
        return self.root

    @property
    def shown(self) -> float:
        """Share of a photo's sides that a frame shows in the mean, roughly. Of `photos` it is a
        part: a random crop, with room around it for what the lens reads."""
        return 0.8 if self.source == "photos" else 1.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("photos", "pairs") and self.root is None:
            raise ValueError(f"source '{self.source}' needs data.root, a folder")
        if self.source != "pairs" and self.warps is not None:
            raise ValueError(f"data.warps is of use to source 'pairs' only, got '{self.source}'")
        if self.source == "external" and self.external is None:
            raise ValueError("source 'external' needs data.external, a 'module:function'")
        if self.source not in ("photos", "pairs") and self.photometric > 0:
            raise ValueError(
                f"data.photometric is of use to 'photos' and 'pairs' only, got '{self.source}'"
            )
        if self.source != "photos" and self.local_warp > 0:
            raise ValueError(
                f"data.local_warp is of use to source 'photos' only, got '{self.source}'"
            )
        if self.lenses == "lensfun":
            self._uses_lensfun()
        elif self.lensfun != LensfunConfig():
            raise ValueError("data.lensfun is given, but only data.lenses: lensfun uses it")
        return self

    def _uses_lensfun(self) -> None:
        if self.source not in ("scenes", "photos"):
            raise ValueError(
                f"data.lenses: lensfun bends 'scenes' and 'photos', got source '{self.source}'"
            )
        for name in ("bend", "early", "moustache", "ripple"):
            if getattr(self.lens, name) != getattr(LensConfig(), name):
                raise ValueError(f"data.lens.{name} is of no use with data.lenses: lensfun")
