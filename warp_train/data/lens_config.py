"""The lenses in the `data` section of a recipe: drawn ones, and lensfun's calibrations."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from warp_train.runtime.section import Section


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
