"""The parser of `export`."""

from __future__ import annotations

import argparse
import math

from warp_train.commands.files import check_writable
from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_device,
    add_model,
    path,
    text,
)

_EXAMPLES = """\
examples:
  warp-train export outputs/runs/night photo.jpg --to opencv
  warp-train export outputs/runs/night photos/ --to opencv --out lenses.jsonl
  warp-train export outputs/runs/night photos/ --to lensfun --out my_lens.xml
  warp-train export outputs/runs/night photos/*.jpg --to lensfun --crop-factor 1.53 --mount "Sony E"
  warp-train export outputs/runs/night photos/ --to lcp --out profiles/

opencv: one line per photo with a JSON object, whose values are arguments of
  cv2.undistort(photo, camera_matrix, dist_coeffs, None, new_camera_matrix)
for the upright photo, as cv2.imread returns it.

lensfun: a database with one entry for each lens, crop factor and focal length in the photos' EXIF,
fitted to all its photos; comments give the spread between them. Programs that use lensfun, such as
darktable, RawTherapee and digiKam, read the files in ~/.local/share/lensfun/. With lensfunpy
installed, the lenses are compared with lensfun's own, of which none is replaced.

lcp: an Adobe lens profile (.lcp) for each camera and lens, with one entry for each focal length.
--out is a folder, or a file if all photos are of one camera and lens. Adobe's programs and
RawTherapee read such files. A profile holds the complete lens, except for its zoom.
"""

_FORMATS_OF = {
    "crop_factor": ("lensfun", "lcp"),
    "mount": ("lensfun",),
    "lens": ("lensfun", "lcp"),
}
"""The formats that an option is for."""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `export`."""
    export = add_command(
        commands,
        "export",
        "write the lenses of photos for OpenCV, lensfun or Adobe's programs",
        _EXAMPLES,
        check=_check,
    )
    add_model(export)
    export.add_argument(
        "photos", metavar="PHOTO", type=path, nargs="+", help="photos, or folders of photos"
    )
    export.add_argument(
        "--to", choices=("opencv", "lensfun", "lcp"), required=True, help="the format"
    )
    export.add_argument(
        "--out",
        metavar="FILE",
        type=path,
        help="write to this file instead of standard output; lcp: or to this folder",
    )
    export.add_argument(
        "--crop-factor",
        metavar="X",
        type=_crop_factor,
        help="lensfun and lcp: the camera's crop factor (full frame is 1), if not that of the EXIF",
    )
    export.add_argument(
        "--mount",
        metavar="NAME",
        type=text,
        help="lensfun: name of the camera's mount, such as `Canon EF`; otherwise it fits "
        "every camera with interchangeable lenses",
    )
    export.add_argument(
        "--lens",
        metavar="NAME",
        type=text,
        help="lensfun and lcp: name of the lens of the photos whose EXIF names none",
    )
    add_device(export)


def _check(arguments: argparse.Namespace) -> None:
    for option, formats in _FORMATS_OF.items():
        if arguments.to not in formats and getattr(arguments, option) is not None:
            name, to = option.replace("_", "-"), " or ".join(formats)
            arguments.parser.error(f"--{name} goes with --to {to}")
    out = arguments.out
    if out is not None and arguments.to == "lcp" and out.is_dir():
        out = out / "profile.lcp"  # whatever its name will be
    check_writable("--out", out)


def _crop_factor(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.1 <= number <= 50:
        raise argparse.ArgumentTypeError(f"{value}: expected a number from 0.1 to 50")
    return number
