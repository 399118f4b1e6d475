"""Folders inside a photo folder that hold no photos of their own."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

_THUMBNAILS, _DELETED, _APPLE = "thumbnails", "deleted files", "metadata of macOS"
SKIPPED_FOLDERS: dict[str, str] = {
    "@eadir": _THUMBNAILS,  # Synology
    ".@__thumb": _THUMBNAILS,  # QNAP
    ".thumbnails": _THUMBNAILS,
    "*.lrdata": _THUMBNAILS,  # Lightroom
    "#recycle": _DELETED,
    "@recycle": _DELETED,
    "$recycle.bin": _DELETED,
    ".trash*": _DELETED,
    "_gsdata_": "copies made by GoodSync",
    "__macosx": _APPLE,
    ".appledouble": _APPLE,
}
"""Patterns of folder names, in lower case, and what such folders contain."""


def is_skipped_folder(name: str) -> bool:
    """Whether a folder of this name contains no photos of its own."""
    return _content(name) is not None


def skipped_line(counts: Mapping[str, int]) -> str:
    """Which folders were skipped, and what they contain; empty if there are none.

    Args:
        counts: number of folders by name.
    """
    parts = [f"{count} {name} ({_content(name)})" for name, count in sorted(counts.items())]
    return f"folders that were not searched: {', '.join(parts)}" if parts else ""


def _content(name: str) -> str | None:
    patterns = SKIPPED_FOLDERS.items()
    return next((what for pattern, what in patterns if fnmatchcase(name.lower(), pattern)), None)
