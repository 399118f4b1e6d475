"""The parser of `rectify`."""

from __future__ import annotations

import argparse
import os

from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_device,
    add_model,
    add_workers,
    path,
    text,
    whole_number,
)
from warp_train.commands.workers import WorkerRule

_MOST_DEFAULT_WORKERS = 4
"""A worker holds a whole photo: more need much memory."""
_EXAMPLES = """\
examples:
  warp-train rectify outputs/runs/quickstart photos/ --out corrected
  warp-train rectify outputs/runs/quickstart a.jpg b.tif 'shoot/**/*.png' --out corrected
  warp-train rectify some/checkpoint photos/ --out corrected --crop max --interpolation lanczos
  warp-train rectify some/checkpoint raw.tif --out web --format jpeg --quality 90 --suffix _web
  warp-train rectify some/checkpoint phone/ --out corrected --format tiff --keep-times
  warp-train rectify tiny scanned_negatives/ --out corrected --shoot folder
  warp-train rectify some/checkpoint photos/ --out numbers --params-only
  warp-train rectify some/checkpoint test/ --out submission --keep-names --format jpeg --quality 95

Reads JPEG, PNG, TIFF, WebP and BMP, and HEIC and AVIF after pip install 'warp_train[heic]'. HEIC
and AVIF become JPEG, unless --format names another format. Folders are searched recursively, but
not hidden ones and those of thumbnails, and their tree is kept below DIR. Pictures that cannot be
read, such as camera raws, are counted in the last line. An existing file is never replaced without
--overwrite. DIR/rectify.jsonl gets one line per photo: the lens, the correction that was applied
and why, or the error. EXIF, colour profile, XMP and bit depth are kept; what a format cannot store
is listed in the photo's line under "warnings".

shoot:
  auto    photos whose EXIF agrees in body, lens, focal length and crop share one lens, which all of
          them decide together; the others are corrected one by one
  exif    the same, with a warning for photos without camera or focal length in their EXIF
  folder  all photos of a folder share one lens: for photos without EXIF
  off     every photo by itself
A photo that contradicts the lens of its shoot is named, and corrected by itself.

crop:
  fill  zoom in about the centre until no area is blank; the size stays the same
  none  do not zoom; areas outside the photo are transparent, or black
  max   cut out the largest rectangle without blank areas; do not zoom
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `rectify`."""
    parser = add_command(
        commands, "rectify", "correct photos at full resolution", _EXAMPLES, check=_check
    )
    add_model(parser)
    parser.add_argument(
        "inputs", metavar="INPUT", type=text, nargs="+", help="photo, folder or quoted pattern"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=path, required=True, help="output folder, created if necessary"
    )
    parser.add_argument(
        "--shoot",
        choices=("auto", "exif", "folder", "off"),
        default="auto",
        help="which photos share one lens (default: %(default)s)",
    )
    _add_picture_options(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files (default: report them as errors)",
    )
    parser.add_argument(
        "--keep-times",
        action="store_true",
        help="give the corrected photos the modification times of the originals",
    )
    parser.add_argument(
        "--even-if-corrected",
        action="store_true",
        help="correct photos also if their metadata mark a lens correction that was applied "
        "already (default: leave them alone)",
    )
    parser.add_argument(
        "--params-only", action="store_true", help="write DIR/rectify.jsonl only, no pictures"
    )
    add_workers(parser, WorkerRule(least=1, most=64, most_by_default=_MOST_DEFAULT_WORKERS))
    add_device(parser)


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--crop",
        choices=("fill", "none", "max"),
        default="fill",
        help="how to treat areas outside the photo (default: %(default)s)",
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="interpolation between pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("jpeg", "png", "tiff", "webp"),
        help="format of the corrected photos (default: that of each input; JPEG for HEIC and AVIF)",
    )
    parser.add_argument(
        "--quality",
        metavar="N",
        type=whole_number(1, 100),
        help="of JPEG and WebP, 1 to 100 (default: a JPEG keeps its own, other inputs become JPEG "
        "with 95; a WebP is lossless if the input was, else 90)",
    )
    names = parser.add_mutually_exclusive_group()
    names.add_argument(
        "--suffix",
        metavar="S",
        type=_name_part,
        default="_rectified",
        help="added to the file names, may be '' (default: %(default)s)",
    )
    names.add_argument(
        "--keep-names",
        dest="suffix",
        action="store_const",
        const="",
        help="give the results the names of the photos, as a scoring server expects",
    )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.quality is not None and arguments.format in ("png", "tiff"):
        arguments.parser.error(f"--quality does not apply to {arguments.format}")


def _name_part(value: str) -> str:
    if any(part in value for part in ("/", os.sep, "\0")):
        raise argparse.ArgumentTypeError(f"must be part of a file's name, got '{value}'")
    return value
