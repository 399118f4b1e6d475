"""The calibrations of lensfun's database: reading them, and choosing by focal length and maker.

lensfun maps as we do, from the corrected radius to the photo's, about the centre of the frame, in
units of half the short side:

    ptlens   Rd = Ru (a Ru³ + b Ru² + c Ru + 1 − a − b − c)
    poly3    Rd = Ru (1 − k1 + k1 Ru²)
    poly5    Rd = Ru (1 + k1 Ru² + k2 Ru⁴)

Source: lensfun's manual, `lfDistortionModel`. All three are `Rd = Ru (1 + Σ t_i Ruⁱ)`, i = 0 … 4,
with `t` linear in the terms.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from warp_train.data.config import LensfunConfig
from warp_train.runtime.errors import WarpTrainError

_MODELS = ("PTLENS", "POLY3", "POLY5")


class Calibration(NamedTuple):
    """One lens at one focal length."""

    maker: str
    """As lensfun writes it."""
    lens: str
    focal: float
    """In mm as on a full frame: the real one times the crop factor."""
    crop: float
    terms: tuple[float, ...]
    """`t_0 … t_4` of the module's formula, rounded as the database is."""


def read_calibrations() -> list[Calibration]:
    """All rectilinear calibrations that lensfunpy brings along, in an order of their own.

    Those that users or systems add are left out: they would make a seed mean something else on
    another machine. Raises WarpTrainError when lensfunpy is not installed.
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
    """`t_0 … t_4` of the module's formula for a model and its three terms, as lensfunpy has them.

    `model` is PTLENS, POLY3 or POLY5; terms that it does not have are ignored.
    """
    a, b, c = (round(float(term), 7) for term in terms)  # single precision's noise is beyond
    if model == "PTLENS":
        return (-a - b - c, c, b, a, 0.0)
    return (-a, 0.0, a, 0.0, 0.0) if model == "POLY3" else (0.0, 0.0, a, 0.0, b)


def split_calibrations(
    found: Sequence[Calibration], config: LensfunConfig
) -> tuple[list[Calibration], list[Calibration]]:
    """The calibrations to train on and to validate on; the same ones without `val_makers`.

    No maker is in both otherwise, and no lens sold under two names. Raises WarpTrainError, naming
    the keys, for an unknown maker or when nothing is left.
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
            raise WarpTrainError(f"data.lensfun: no calibration to {use} on: {_choice(config)}")
    return train, val


def _choice(config: LensfunConfig) -> str:
    keys = ("focal", "crop", "makers", "exclude_makers", "val_makers")
    given = ((name, list(getattr(config, name))) for name in keys)
    return "widen " + ", ".join(f"{name} {value}" for name, value in given if value)


def _matching(key: str, names: Iterable[str], known: Counter[str]) -> set[str]:
    """lensfun's makers that some names stand for."""
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
    """Whether the words of the name follow each other in the maker's."""
    return f" {' '.join(name.casefold().split())} " in f" {' '.join(maker.casefold().split())} "


def _nearest(name: str, known: Counter[str]) -> list[str]:
    """Makers that are spelled alike, or else those with the most calibrations."""
    folded = {maker.casefold(): maker for maker in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return [folded[maker] for maker in close] or [maker for maker, _ in known.most_common(3)]
