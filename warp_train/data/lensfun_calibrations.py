"""The calibrations of lensfun's database, and their selection by focal length, camera and maker.

Like this package, lensfun maps the corrected radius `Ru` to the photo's radius `Rd`. Its radii are
measured from the centre of the frame, in units of half the short side:

    ptlens   Rd = Ru (a Ru³ + b Ru² + c Ru + 1 − a − b − c)
    poly3    Rd = Ru (1 − k1 + k1 Ru²)
    poly5    Rd = Ru (1 + k1 Ru² + k2 Ru⁴)

Source: lensfun's manual, `lfDistortionModel`. All three have the form
`Rd = Ru (1 + Σ t_i Ruⁱ)`, i = 0 … 4, where `t` is linear in the model's terms.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from warp_train.data.lens_config import LensfunConfig
from warp_train.runtime.errors import WarpTrainError

_MODELS = ("PTLENS", "POLY3", "POLY5")


class Calibration(NamedTuple):
    """One lens at one focal length."""

    maker: str
    """The maker's name in lensfun's spelling."""
    lens: str
    focal: float
    """Focal length in mm as on a full frame: the real one times the crop factor."""
    crop: float
    """Crop factor of the camera."""
    terms: tuple[float, ...]
    """`t_0 … t_4` of the formula in this module's docstring."""


def read_calibrations() -> list[Calibration]:
    """All rectilinear calibrations that are packaged with lensfunpy, sorted.

    Calibrations that a user or system has added are left out, so that a seed gives the same lenses
    on every machine. Raises WarpTrainError if lensfunpy is not installed.
    """
    try:
        import lensfunpy
    except ImportError as error:
        raise WarpTrainError(
            "data.lenses: 'lensfun' needs lensfunpy: pip install 'warp_train[lensfun]'"
        ) from error
    return sorted(
        Calibration(
            lens.maker,
            lens.model,
            entry.focal * lens.crop_factor,
            lens.crop_factor,
            model_terms(entry.model.name, entry.terms),
        )
        for lens in lensfunpy.Database(load_common=False).lenses
        if lens.type == lensfunpy.LensType.RECTILINEAR
        for entry in lens.calib_distortion
        if entry.model.name in _MODELS
    )


def model_terms(model: str, terms: Sequence[float]) -> tuple[float, ...]:
    """`t_0 … t_4` of the formula in this module's docstring.

    Args:
        model: PTLENS, POLY3 or POLY5.
        terms: lensfunpy's three terms; those that the model does not use are ignored.
    """
    a, b, c = (round(float(term), 7) for term in terms)  # later digits are float32 rounding noise
    if model == "PTLENS":
        return (-a - b - c, c, b, a, 0.0)
    return (-a, 0.0, a, 0.0, 0.0) if model == "POLY3" else (0.0, 0.0, a, 0.0, b)


def split_calibrations(
    found: Sequence[Calibration], config: LensfunConfig
) -> tuple[list[Calibration], list[Calibration]]:
    """The calibrations to train on and to validate on.

    Without `val_makers`, both are the same. With it, they share no maker, and no lens that is sold
    under two names. Raises WarpTrainError, which names the keys, for an unknown maker or if no
    calibration is left.
    """
    known = Counter(entry.maker for entry in found)
    wanted = _matching("makers", config.makers, known) if config.makers else set(known)
    excluded = _matching("exclude_makers", config.exclude_makers, known)
    held_out = _matching("val_makers", config.val_makers, known)
    usable = [
        entry
        for entry in found
        if config.focal[0] <= entry.focal <= config.focal[1]
        and config.crop[0] <= entry.crop <= config.crop[1]
        and entry.maker not in excluded
    ]
    val = [entry for entry in usable if entry.maker in held_out]
    seen = {entry.terms for entry in val}
    train = [
        entry for entry in usable if entry.maker in wanted - held_out and entry.terms not in seen
    ]
    if not held_out:
        val = train
    for use, entries in (("train", train), ("validate", val)):
        if not entries:
            raise WarpTrainError(
                f"data.lensfun: no calibration is left to {use} on; {_advice(config)}"
            )
    return train, val


def _advice(config: LensfunConfig) -> str:
    keys = ("focal", "crop", "makers", "exclude_makers", "val_makers")
    given = ((name, list(getattr(config, name))) for name in keys)
    return "widen " + ", ".join(f"{name} {value}" for name, value in given if value)


def _matching(key: str, names: Iterable[str], known: Counter[str]) -> set[str]:
    """The makers in lensfun's spelling that match any of the names."""
    matched: set[str] = set()
    for name in names:
        those = {maker for maker in known if _is_named(maker, name)}
        if not those:
            raise WarpTrainError(
                f"data.lensfun.{key}: lensfun has no lenses of '{name}'; nearest: "
                + ", ".join(_nearest(name, known))
            )
        matched |= those
    return matched


def _is_named(maker: str, name: str) -> bool:
    """Whether the words of `name` occur in succession in `maker`, in upper or lower case."""
    return f" {' '.join(name.casefold().split())} " in f" {' '.join(maker.casefold().split())} "


def _nearest(name: str, known: Counter[str]) -> list[str]:
    """Up to three makers with a similar name, or else the three with the most calibrations."""
    folded = {maker.casefold(): maker for maker in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return [folded[maker] for maker in close] or [maker for maker, _ in known.most_common(3)]
