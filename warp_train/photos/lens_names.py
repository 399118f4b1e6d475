"""Names of lenses in EXIF: which ones identify a lens, and a name for a lens that has none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NO_NAMES = frozenset(
    (
        *("unknown", "unknownlens", "unidentified", "undefined", "notavailable", "na", "none"),
        *("null", "nolens", "lens", "other", "manual", "manuallens", "uncodedlens"),
    )
)
"""Letters of names that identify nothing."""
_LONGEST_MOUNT = 4
"""Letters of a name that is only the kind of a mount, as `EF-S`, `FE` and `DT`."""


@dataclass(frozen=True)
class LensSpec:
    """The range of a lens: EXIF's LensSpecification. Numbers are rounded to hundredths."""

    min_focal: float
    """In mm."""
    max_focal: float
    widest: tuple[float, float] | None = None
    """Lowest f-numbers at the shortest and longest focal length; None if unknown."""

    @property
    def name(self) -> str:
        """As lensfun writes it: `18-55mm f/3.5-5.6`, `50mm f/1.8`, `18-55mm`."""
        focal = f"{_range(self.min_focal, self.max_focal)}mm"
        return focal if self.widest is None else f"{focal} f/{_range(*self.widest)}"


def lens_spec(numbers: Sequence[float | None]) -> LensSpec | None:
    """The range from EXIF's four numbers, None for an unknown one; None without focal lengths."""
    if len(numbers) != 4 or numbers[0] is None or numbers[1] is None:
        return None
    low, high, *apertures = (None if number is None else round(number, 2) for number in numbers)
    if not low or not high or low > high:
        return None
    at_low, at_high = apertures
    return LensSpec(low, high, (at_low, at_high) if at_low and at_high else None)


def is_lens_name(text: str) -> bool:
    """False for what cameras write in place of a name: `----`, `0.0 mm f/0.0`, `EF-S`, `65535`."""
    letters = "".join(filter(str.isalpha, text)).casefold()
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    if not numbers:
        return len(letters) > _LONGEST_MOUNT and letters not in _NO_NAMES
    return bool(letters) and any(numbers) and letters not in _NO_NAMES


def with_range(name: str, spec: LensSpec) -> str:
    """A name that also contains the lens's range, unless it does already."""
    numbers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)}
    if {spec.min_focal, spec.max_focal} <= numbers:
        return name
    return f"{name} {spec.name}".strip()


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"
