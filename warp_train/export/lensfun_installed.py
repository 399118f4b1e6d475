"""The cameras and lenses that lensfun already has, and where a new lens belongs among them.

lensfun identifies a camera by maker and model, and a lens by maker, model, focal range and crop
factor. A later entry replaces an earlier one: a second `<camera>` with another mount takes away
all lenses of its real mount, and a second `<lens>` the vignetting and colour fringes of the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warp_train.photos.camera_exif import CameraExif

_ANY_MOUNT = "Generic"  # lensfun's mount that fits every camera with interchangeable lenses
_SMALL_SENSOR = 2.2
"""Crop factor above which a camera that lensfun lacks has a fixed lens.

The interchangeable lenses of smaller sensors (Nikon 1, Pentax Q, Samsung NX mini) are no longer
made, and lensfun has their cameras.
"""
_SUFFIX = " (warp_train)"


@dataclass(frozen=True, order=True)
class Body:
    """A camera of lensfun's database."""

    mount: str
    crop_factor: float

    @property
    def is_fixed(self) -> bool:
        """Whether its lens is fixed. In lensfun, these mounts start in lower case."""
        return self.mount[:1].islower()


@dataclass(frozen=True)
class Installed:
    """The cameras and lenses of lensfun's database."""

    bodies: Mapping[tuple[str, str], tuple[Body, ...]]
    lenses: frozenset[tuple[str, str]]

    def bodies_of(self, camera: CameraExif) -> tuple[Body, ...]:
        return self.bodies.get(_camera_key(camera.maker, camera.camera), ())

    def has_lens(self, maker: str, model: str) -> bool:
        return _lens_key(maker, model) in self.lenses


@dataclass(frozen=True)
class Place:
    """The mount of a lens entry."""

    mount: str
    is_new: bool = False
    """Whether the entry needs a camera with this mount."""
    crop_factor: float | None = None
    """The camera's, if the database has it."""


def read_installed() -> Installed | None:
    """The database of lensfunpy and those of this system and user; None without lensfunpy.

    Cameras from an earlier export are not counted: a new export may replace them. For the same
    reason, only lenses of the official database are counted.
    """
    try:
        import lensfunpy
    except ImportError:
        return None
    official = lensfunpy.Database(load_common=False)
    bodies: dict[tuple[str, str], set[Body]] = defaultdict(set)
    for camera in (*official.cameras, *_of_this_system(lensfunpy)):
        if camera.mount and camera.mount != own_mount(camera.model):
            bodies[_camera_key(camera.maker, camera.model)].add(
                Body(camera.mount, camera.crop_factor)
            )
    return Installed(
        {key: tuple(sorted(found)) for key, found in bodies.items()},
        frozenset(_lens_key(lens.maker, lens.model) for lens in official.lenses),
    )


def _of_this_system(lensfunpy: Any) -> list[Any]:
    try:
        return list(lensfunpy.Database(load_bundled=False).cameras)
    except lensfunpy.LensfunError:  # none is installed, or a file is damaged
        return []


def own_mount(camera: str) -> str:
    """The mount of a camera with a fixed lens that lensfun lacks; no other camera has it."""
    return "fixed" + "".join(filter(str.isalnum, camera))


def why_unattributed(
    camera: CameraExif, installed: Installed | None, mount: str | None, crop_factor: float | None
) -> str | None:
    """Why a photo whose EXIF identifies no lens cannot be used; None if its lens is fixed.

    Args:
        mount: of the camera, as given by the user.
        crop_factor: of the camera; None if unknown.
    """
    remedy = "give the name of the lens"
    if mount is not None:
        fixed, why = mount[:1].islower(), f"the mount {mount} takes several"
    elif installed is None:
        fixed, why = False, f"{camera.camera} may take several"
        remedy += ", or install warp_train[lensfun], whose database has the cameras with one lens"
    elif bodies := installed.bodies_of(camera):
        fixed, why = all(body.is_fixed for body in bodies), f"{camera.camera} takes several"
    else:
        fixed = crop_factor is None or _is_small(crop_factor)
        why = f"lensfun does not have {camera.camera}, which may take several"
    return None if fixed else f"its EXIF identifies no lens, and {why}: {remedy}"


def place_of(
    camera: CameraExif, installed: Installed | None, mount: str | None, crop_factor: float | None
) -> Place:
    """Where the lens of a camera belongs.

    Args:
        camera: of a photo whose EXIF identifies the lens, or for which `why_unattributed` is None.
        mount: of the camera, as given by the user.
        crop_factor: of the camera; None if unknown.
    """
    body = next(iter(installed.bodies_of(camera) if installed else ()), None)
    if mount is not None:
        return Place(mount, crop_factor=body.crop_factor if body else None)
    if body is not None:
        keeps_mount = body.is_fixed or not camera.lens
        return Place(body.mount if keeps_mount else _ANY_MOUNT, crop_factor=body.crop_factor)
    if installed and not camera.lens and crop_factor and _is_small(crop_factor):
        return Place(own_mount(camera.camera), is_new=True)
    return Place(_ANY_MOUNT)


def _is_small(crop_factor: float) -> bool:
    return crop_factor > _SMALL_SENSOR


def entry_name(maker: str, model: str, installed: Installed | None) -> str:
    """A name that replaces no lens of the database. lensfun finds the lens by either name."""
    if installed is not None and not installed.has_lens(maker, model):
        return model
    return model + _SUFFIX


def _camera_key(maker: str, model: str) -> tuple[str, str]:
    """First word of the maker, and the model without it: `NIKON CORPORATION`, `NIKON D70`."""
    first = "".join(filter(str.isalnum, (maker.split() or [""])[0])).casefold()
    name = "".join(filter(str.isalnum, model)).casefold()
    return first, name.removeprefix(first) or name


def _lens_key(maker: str, model: str) -> tuple[str, str]:
    """lensfun ignores case and repeated spaces."""
    return " ".join(maker.split()).casefold(), " ".join(model.split()).casefold()
