"""Corrects one photo file: decode, predict, check, resample once, write."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

from warp_train.geometry import jacobian_stats
from warp_train.inference.look import Look
from warp_train.inference.photo_change import photo_change
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.inference.rectify_inputs import Job, Record, Settings, failure
from warp_train.inference.shoot import CommonLens
from warp_train.inference.straightener import Straightener, correct
from warp_train.inference.view import View
from warp_train.photos.corrected import crop_note, panorama, why_corrected
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, read_photo
from warp_train.photos.formats import Crop, written_format
from warp_train.photos.pixels import predictor_view
from warp_train.runtime.atomic_files import check_free, make_folders, write_atomically
from warp_train.runtime.errors import WarpTrainError

_JACOBIAN_SIDE = 256


def attempt(job: Job, straightener: Straightener, settings: Settings) -> Record:
    """The record of `rectify_photo`, or `{"input", "error"}` with one line that names the file."""
    try:
        return rectify_photo(job, straightener, settings)
    except WarpTrainError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{job.input}: not enough memory to correct it"
    except Exception as error:  # the other photos are corrected all the same
        reason = f"{job.input}: {type(error).__name__}: {error}"
    return failure(job, " ".join(reason.split()))


def rectify_photo(job: Job, straightener: Straightener, settings: Settings) -> Record:
    """Corrects one photo file.

    Returns:
        `input`, `output` (None: measured only), `width` and `height` of the upright photo,
        `params [8]` and `mode_used`, both of the warp that was applied, `safety`, `refused`,
        `expected_error_px` (the mean end-point error that the model expects of its prediction, in
        pixels of the photo), `jacobian` (of the applied warp over the frame, before a crop),
        `crop`, `resampled`, `warnings`, `model_hash`, `seconds`; and `left_alone`, the reason, if
        the metadata mark a lens correction that was applied already; and `shoot`, if the photo has
        one: its `name`, the number of `photos`, `own_lens_differs_px` (the mean distance between
        the photo's own lens and the common one) and `disagrees` (the common one was not applied).

    Raises:
        WarpTrainError: the photo cannot be read, corrected as asked, or written. In all three cases
            no file is written.
    """
    started = time.perf_counter()
    if job.output is not None:
        _check_output(job, settings)
    photo = read_photo(job.input)
    if (reason := panorama(photo.metadata)) is not None:
        raise WarpTrainError(f"{job.input}: {reason}")
    height, width = photo.pixels.shape[:2]
    corrected = None if settings.even_if_corrected else why_corrected(photo.metadata)
    shared = None if corrected is not None else job.shoot
    common = None if shared is None else CommonLens.unpacked(shared.lens)
    look = straightener.look(predictor_view(photo.pixels), leave_alone=corrected, common=common)
    photo = replace(photo, warnings=(*_shoot_warnings(job, look), *photo.warnings))
    if corrected is None and (note := crop_note(photo.metadata)) is not None:
        photo = replace(photo, warnings=(note, *photo.warnings))
    record = {
        "input": str(job.input),
        "output": None,
        "width": width,
        "height": height,
        **_warp_record(look),
        "crop": None,
        "resampled": False,
        "warnings": list(photo.warnings),
        "model_hash": straightener.model_hash,
    }
    if job.shoot is not None and look.shoot is not None:
        record["shoot"] = {
            "name": job.shoot.name,
            "photos": job.shoot.photos,
            "own_lens_differs_px": look.shoot.own_lens_differs_px,
            "disagrees": look.shoot.disagrees,
        }
    if corrected is not None:
        record["left_alone"] = corrected
    if job.output is not None:
        record |= _write(photo, job, job.output, look.chosen.warp, settings)
    return {**record, "seconds": round(time.perf_counter() - started, 3)}


def _shoot_warnings(job: Job, look: Look) -> list[str]:
    if job.shoot is not None and look.disagrees:
        name, count = job.shoot.name, job.shoot.photos
        return [f"contradicts the lens of its shoot ({name}, {count} photos); corrected by itself"]
    return [job.warning] if job.warning else []


def _check_output(job: Job, settings: Settings) -> None:
    """Raises WarpTrainError if the result cannot be written, as far as it can be known early."""
    assert job.output is not None
    try:
        check_free(job.output)
    except FileExistsError as error:
        if job.output.is_dir():
            raise WarpTrainError(f"{job.input}: {job.output} is a folder") from error
        if not settings.overwrite:
            raise WarpTrainError(
                f"{job.input}: {job.output} exists already (overwrite replaces it)"
            ) from error
    except OSError as error:
        raise _cannot_write(job, error) from error


def _warp_record(look: Look) -> Record:
    chosen = look.chosen
    return {
        "params": chosen.warp.params.tolist(),
        "mode_used": chosen.mode,
        "safety": dict(chosen.report),
        "refused": list(chosen.refused),
        "jacobian": _jacobian(chosen.warp, look.height, look.width),
        "expected_error_px": look.expected_error_px,
    }


def _jacobian(warp: PhotoWarp, height: int, width: int) -> dict[str, float]:
    scale = min(1.0, _JACOBIAN_SIDE / max(height, width))
    nodes = frame_points(max(2, round(height * scale)), max(2, round(width * scale)))
    grid = warp.sources(nodes, height, width)
    return {name: float(value) for name, value in jacobian_stats(grid[None]).items()}


def _write(photo: PhotoFile, job: Job, output: Path, warp: PhotoWarp, settings: Settings) -> Record:
    """Writes the corrected photo; returns its part of the record."""
    kind = settings.format or written_format(photo.format)
    lost: list[str] = []
    try:
        corrected = correct(photo.pixels, warp, settings.crop, settings.interpolation)
        copied = not corrected.resampled and kind == photo.format and settings.quality is None
        if copied:  # compressing a JPEG again would change it
            data = job.input.read_bytes()
        else:
            change = photo_change(warp, corrected.view)
            data, lost = encode_photo(photo, corrected.pixels, kind, settings.quality, change)
        make_folders(output.parent, settings.out)
        write_atomically(output, data, overwrite=settings.overwrite, process=os.getpid())
        _keep_attributes(job.input, output, times=settings.keep_times)
    except ValueError as error:
        raise WarpTrainError(f"{job.input}: {error}") from error
    except OSError as error:
        raise _cannot_write(job, error) from error
    return {
        "output": str(output),
        "crop": _crop_record(settings.crop, corrected.view),
        "resampled": corrected.resampled,
        "warnings": [] if copied else [*photo.warnings, *lost],
    }


def _keep_attributes(source: Path, output: Path, *, times: bool) -> None:
    """Gives the result the permissions of its photo and, if asked, its times of access and change.

    A file system without permissions refuses them; the photo is whole all the same.
    """
    found = source.stat()
    with contextlib.suppress(OSError):
        output.chmod(stat.S_IMODE(found.st_mode) & 0o777)
        if times:
            os.utime(output, ns=(found.st_atime_ns, found.st_mtime_ns))


def _crop_record(crop: Crop, view: View) -> Record:
    height, width = view.size
    place = {"left": view.left, "top": view.top, "width": width, "height": height}
    return {"mode": crop, "zoom": view.zoom, **place}


def _cannot_write(job: Job, error: OSError) -> WarpTrainError:
    reason = error.strerror or error
    return WarpTrainError(f"{job.input}: {job.output} cannot be written ({reason})")
