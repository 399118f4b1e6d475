"""What a photo shows of its lens, by value.

Tensors would be shared between processes instead, which takes an open file for each.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from warp_train.models.edge_weights import EquationWeights, WeighedEdges
from warp_train.models.edges import Edges
from warp_train.models.heads_parametric import Observation

Arrays = tuple[NDArray[Any], ...]


def packed(photo: Observation) -> Arrays:
    """An observation on the CPU by value, for another process."""
    edges, weights, hidden = photo.weighed
    tensors = (*edges, *weights, hidden, photo.votes, photo.effective_votes)
    return tuple(part.numpy() for part in tensors)


def unpacked(arrays: Arrays) -> Observation:
    """The inverse of `packed`."""
    *edges, bend, direction, hidden, votes, effective = map(torch.from_numpy, arrays)
    weighed = WeighedEdges(Edges(*edges), EquationWeights(bend, direction), hidden)
    return Observation(weighed, votes, effective)
