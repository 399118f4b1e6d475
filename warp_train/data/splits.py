"""Which photos belong together, and which groups are held out."""

import hashlib
import re
from collections.abc import Collection

from warp_train.runtime.errors import WarpTrainError

_ROLE = re.compile(r"_(original|generated)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?P<group>.+)_g\d+$")


def id_of(name: str) -> str:
    """The image id of a file's name without its suffix: less `_original` or `_generated`."""
    return _ROLE.sub("", name)


def group_of(image_id: str) -> str:
    """What precedes `_g<n>` (a house, a shoot); an id without it is a group of its own."""
    numbered = _NUMBERED.match(image_id)
    return numbered["group"] if numbered else image_id


def held_out(groups: Collection[str], fraction: float, where: str) -> set[str]:
    """The groups to validate on: about `fraction` of them, at least one and never all.

    Each group is judged by its own hash, so that adding files moves no group to the other side.
    Raises WarpTrainError, naming `where`, when there is one group only.
    """
    ranked = sorted(set(groups), key=_position)
    if len(ranked) < 2:
        raise WarpTrainError(
            f"{where}: holds one group of photos only, and a split needs two; set data.val_root"
        )
    chosen = sum(_position(group) < fraction for group in ranked)
    return set(ranked[: min(max(chosen, 1), len(ranked) - 1)])


def _position(group: str) -> float:
    """A number in 0..1 that follows from the name alone."""
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
