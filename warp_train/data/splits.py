"""Groups of photos that belong together, and the groups that are held out for validation."""

import hashlib
import re
from collections.abc import Collection

from warp_train.runtime.errors import WarpTrainError

_ROLE = re.compile(r"_(original|generated)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?P<group>.+)_g\d+$")


def id_of(name: str) -> str:
    """The image id for a file name without suffix: `_original` or `_generated` is removed."""
    return _ROLE.sub("", name)


def group_of(image_id: str) -> str:
    """The part of an id before `_g<n>` (a house, a shoot); an id without `_g<n>` is its own
    group."""
    numbered = _NUMBERED.match(image_id)
    return numbered["group"] if numbered else image_id


def held_out(groups: Collection[str], fraction: float, where: str) -> set[str]:
    """The groups to validate on: about `fraction` of them, at least one and never all.

    The hash of its name decides for each group, so that adding files moves no group between
    training and validation. Raises WarpTrainError, which names `where`, if there is only one group.
    """
    ranked = sorted(set(groups), key=_position)
    if len(ranked) < 2:
        raise WarpTrainError(
            f"{where}: contains only one group of photos, but training and validation need one "
            "each; set data.val_root"
        )
    chosen = sum(_position(group) < fraction for group in ranked)
    return set(ranked[: min(max(chosen, 1), len(ranked) - 1)])


def _position(group: str) -> float:
    """A number in 0..1, computed from the name alone."""
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
