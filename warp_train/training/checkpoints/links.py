"""Symbolic links to checkpoints."""

import os
from pathlib import Path


def point_link(link: Path, target: Path) -> None:
    """Makes or switches a relative symbolic link in one step."""
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent.resolve()), target_is_directory=True)
    try:
        temporary.replace(link)
    except OSError:  # a folder is in the way
        temporary.unlink()
        raise


def link_target(link: Path) -> Path | None:
    """The real path of a link; None for a loop or a missing target."""
    try:
        return link.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
