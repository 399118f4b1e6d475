"""One photo corrected: decode, predict, check, resample once, write."""

from __future__ import annotations

import os
import time
from pathlib import Path

from warp_train.geometry import jacobian_stats
from warp_train.inference.fallback import SafeWarp, choose_warp, expected_error_px
from warp_train.inference.photo_warp import PhotoWarp, frame_points
from warp_train.inference.predictor import Predictor
from warp_train.inference.rectify import Record, Settings, failure
from warp_train.inference.rectify_inputs import Job
from warp_train.inference.resample import resample
from warp_train.inference.view import View, choose_view
from warp_train.photos.encoding import encode_photo
from warp_train.photos.files import PhotoFile, read_photo
from warp_train.photos.formats import Crop
from warp_train.photos.pixels import predictor_view
from warp_train.runtime.atomic_files import check_free, make_folders, write_atomically
from warp_train.runtime.errors import WarpTrainError

_JACOBIAN_SIDE = 256


def attempt(job: Job, predictor: Predictor, settings: Settings) -> Record:
    """`rectify_photo`, or `{"input", "error"}` with one line that names the file."""
    try:
        return rectify_photo(job, predictor, settings)
    except WarpTrainError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{job.input}: there is not enough memory to correct it"
    except Exception as error:  # whatever it is, it is about this photo: the others go on
        reason = f"{job.input}: {type(error).__name__}: {error}"
    return failure(job, " ".join(reason.split()))


def rectify_photo(job: Job, predictor: Predictor, settings: Settings) -> Record:
    """Corrects one photo and says what was done.

    Returns:
        `input`, `output` (None: measured only), `width` and `height` of the upright photo,
        `params [8]` and `mode_used`, both of the warp that was applied, `safety`, `refused`,
        `expected_error_px` (what the model expects its mean end-point error to be in the photo),
        `jacobian` (of that warp over the frame, before a crop), `crop`, `resampled`, `warnings`,
        `model_hash`, `seconds`.

    Raises:
        WarpTrainError: the photo cannot be read, corrected as asked, or written; nothing was.
    """
    started = time.perf_counter()
    if job.output is not None:
        _check_output(job, settings)
    photo = read_photo(job.input)
    height, width = photo.pixels.shape[:2]
    said = predictor.predict(predictor_view(photo.pixels))
    chosen = choose_warp(said, height, width)
    record = {
        "input": str(job.input),
        "output": None,
        "width": width,
        "height": height,
        **_what_was_chosen(chosen, height, width),
        "expected_error_px": _expected_error(said, height, width),
        "crop": None,
        "resampled": False,
        "warnings": list(photo.warnings),
        "model_hash": predictor.model_hash,
    }
    if job.output is not None:
        record |= _write(photo, job, job.output, chosen.warp, settings)
    return {**record, "seconds": round(time.perf_counter() - started, 3)}


def _check_output(job: Job, settings: Settings) -> None:
    """Before any work: that the output can be made, as far as can be told."""
    assert job.output is not None
    try:
        check_free(job.output)
    except FileExistsError as error:
        if job.output.is_dir():
            raise WarpTrainError(f"{job.input}: {job.output} is a folder") from error
        if not settings.overwrite:
            raise WarpTrainError(
                f"{job.input}: {job.output} exists already (--overwrite replaces it)"
            ) from error
    except OSError as error:
        raise _cannot_write(job, error) from error


def _what_was_chosen(chosen: SafeWarp, height: int, width: int) -> Record:
    return {
        "params": chosen.warp.params.tolist(),
        "mode_used": chosen.mode,
        "safety": dict(chosen.report),
        "refused": list(chosen.refused),
        "jacobian": _jacobian(chosen.warp, height, width),
    }


def _expected_error(said: PhotoWarp, height: int, width: int) -> float | None:
    return None if said.doubt is None else expected_error_px(said.doubt, height, width)


def _jacobian(warp: PhotoWarp, height: int, width: int) -> dict[str, float]:
    scale = min(1.0, _JACOBIAN_SIDE / max(height, width))
    nodes = frame_points(max(2, round(height * scale)), max(2, round(width * scale)))
    grid = warp.sources(nodes, height, width)
    return {name: float(value) for name, value in jacobian_stats(grid[None]).items()}


def _write(photo: PhotoFile, job: Job, output: Path, warp: PhotoWarp, settings: Settings) -> Record:
    """Writes the corrected photo; what it adds to the record."""
    height, width = photo.pixels.shape[:2]
    kind = settings.format or photo.format
    lost: list[str] = []
    try:
        view = choose_view(warp, height, width, settings.crop)
        resampled = not (warp.is_identity and view.is_whole)
        copied = not resampled and kind == photo.format and settings.quality is None
        if copied:  # a JPEG that is compressed again is not the same photo
            data = job.input.read_bytes()
        else:
            pixels = photo.pixels
            if resampled:
                pixels = resample(pixels, warp, view, settings.interpolation)
            data, lost = encode_photo(photo, pixels, kind, settings.quality)
        make_folders(output.parent, settings.out)
        write_atomically(output, data, overwrite=settings.overwrite, process=os.getpid())
    except ValueError as error:
        raise WarpTrainError(f"{job.input}: {error}") from error
    except OSError as error:
        raise _cannot_write(job, error) from error
    return {
        "output": str(output),
        "crop": _crop_record(settings.crop, view),
        "resampled": resampled,
        "warnings": [] if copied else [*photo.warnings, *lost],
    }


def _crop_record(crop: Crop, view: View) -> Record:
    height, width = view.size
    place = {"left": view.left, "top": view.top, "width": width, "height": height}
    return {"mode": crop, "zoom": view.zoom, **place}


def _cannot_write(job: Job, error: OSError) -> WarpTrainError:
    reason = error.strerror or error
    return WarpTrainError(f"{job.input}: {job.output} cannot be written ({reason})")
