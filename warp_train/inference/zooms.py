"""The lenses of one zoom at several focal lengths: each borrows from its neighbours.

The distortion of a zoom changes with its focal length, little between near ones. Over the logarithm
of the focal length its modes are modelled as a random walk whose steps have the size of those of
real zooms (Gaussian-process regression: C. Rasmussen and C. Williams, "Gaussian Processes for
Machine Learning", 2006, equations 2.25 and 2.26). Two photos at 24 mm are then nearly as sure as
the twenty at 16 and 35 mm beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from warp_train.inference.shoot import CommonLens, Shoot

_PER_LOG_FOCAL = (0.2, 0.2, 0.4)
"""Variance by which each mode changes while the focal length grows e-fold: differences between the
focal lengths of zooms, 0.13, 0.14 and 0.26 over 0.15, and 0.36, 0.34 and 0.49 over 0.65."""
_ANYWHERE = 25.0  # variance of where the walk starts: more than any lens needs


def zoom_lenses(shoots: Sequence[Shoot], focals: Sequence[float]) -> list[CommonLens | None]:
    """The lens of each shoot through one zoom, by what is known at all focal lengths.

    Args:
        shoots: each at one focal length; several only if they are through one zoom.
        focals: their focal lengths in mm, different ones.

    Returns:
        None for a shoot without photos, and for all if they have less than two photos together.
    """
    if sum(shoot.photos for shoot in shoots) < 2:
        return [None] * len(shoots)
    solved = [shoot.solve(least=1) for shoot in shoots]
    known = sorted((focal, i) for i, focal in enumerate(focals) if solved[i] is not None)
    near = along_zoom(
        [lens for _, i in known if (lens := solved[i]) is not None], [focal for focal, _ in known]
    )
    found: list[CommonLens | None] = [None] * len(shoots)
    for (_, i), lens in zip(known, near, strict=True):
        found[i] = lens
    return found


def along_zoom(lenses: Sequence[CommonLens], focals: Sequence[float]) -> list[CommonLens]:
    """The lenses, each by what is known of all of them.

    Args:
        lenses: of one zoom, each from photos of one focal length.
        focals: focal lengths in mm, different ones.
    """
    if len(lenses) < 2:
        return list(lenses)
    x = torch.tensor(focals, dtype=torch.float64).log()
    walk = -(x[:, None] - x).abs() / 2
    rates = torch.tensor(_PER_LOG_FOCAL, dtype=torch.float64)
    modes = len(rates)
    prior = torch.kron(walk, torch.diag(rates)) + torch.kron(
        torch.full_like(walk, _ANYWHERE), torch.eye(modes, dtype=torch.float64)
    )
    covariances = [lens.covariance.double() for lens in lenses]
    noise: Tensor = torch.block_diag(*covariances)  # type: ignore[no-untyped-call]
    gain = torch.linalg.solve(prior + noise, prior).mT  # both are symmetric
    mean = gain @ torch.cat([lens.modes.double() for lens in lenses])
    rest = prior - gain @ prior
    return [
        lens._replace(
            modes=mean[modes * i : modes * (i + 1)].float(),
            covariance=rest[modes * i : modes * (i + 1), modes * i : modes * (i + 1)].float(),
        )
        for i, lens in enumerate(lenses)
    ]
