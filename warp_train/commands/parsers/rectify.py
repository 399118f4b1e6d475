"""The parser of `rectify`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from warp_train.commands.parsers.options import (
    Subparsers,
    add_command,
    add_device,
    add_model,
    add_workers,
    text,
    whole_number,
)

_EXAMPLES = """\
examples:
  warp-train rectify outputs/runs/quickstart photos/ --out corrected
  warp-train rectify outputs/runs/quickstart a.jpg b.tif 'shoot/**/*.png' --out corrected
  warp-train rectify some/checkpoint photos/ --out corrected --crop max --interpolation lanczos
  warp-train rectify some/checkpoint raw.tif --out web --format jpeg --quality 90 --suffix _web
  warp-train rectify some/checkpoint photos/ --out numbers --params-only

Folders are searched in depth, and their tree is kept below DIR. A photo that is there already is
never replaced without --overwrite. DIR/rectify.jsonl gets a line for each photo: the lens, how far
it was trusted and why, or the error. EXIF, colour profile, XMP and depth are kept; where a format
cannot hold one of them, the photo's line says so under "warnings".

crop:
  fill  zoom in about the centre just as far as leaves nothing blank; the size stays
  none  the lens as it is; what lies outside the photo is transparent, or black
  max   the largest rectangle without anything blank, not zoomed
"""


def add_parser(commands: Subparsers[argparse.ArgumentParser]) -> None:
    """Declares `rectify`."""
    parser = add_command(commands, "rectify", "correct photos at full resolution", _EXAMPLES)
    add_model(parser)
    parser.add_argument(
        "inputs", metavar="INPUT", type=text, nargs="+", help="photo, folder or quoted pattern"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="folder to write to; made if need be"
    )
    _add_picture_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there (default: report)"
    )
    parser.add_argument(
        "--params-only", action="store_true", help="write the lines alone, no pictures"
    )
    add_workers(parser, least=1, most=64, default="one per core, at most 4")
    add_device(parser)


def _add_picture_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--crop",
        choices=("fill", "none", "max"),
        default="fill",
        help="what to do where the photo has nothing to show (default: %(default)s)",
    )
    parser.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos"),
        default="bicubic",
        help="how pixels are read (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("jpeg", "png", "tiff", "webp"),
        help="format of the outputs (default: that of each input)",
    )
    parser.add_argument(
        "--quality",
        metavar="N",
        type=whole_number(1, 100),
        help="of JPEG and WebP, 1 to 100 (default: that of a JPEG, and 95 for what becomes one; a "
        "WebP is lossless where the input was, else 90)",
    )
    parser.add_argument(
        "--suffix",
        metavar="S",
        type=_name_part,
        default="_rectified",
        help="what is added to the names, may be '' (default: %(default)s)",
    )


def _name_part(value: str) -> str:
    if any(part in value for part in ("/", os.sep, "\0")):
        raise argparse.ArgumentTypeError(f"must be part of a file's name, got '{value}'")
    return value
