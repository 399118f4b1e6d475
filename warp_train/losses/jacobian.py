"""Fold-over penalty."""

from torch import Tensor

from warp_train.geometry import full_precision, jacobian_determinant
from warp_train.losses.scales import mean


@full_precision
def jacobian_loss(grid: Tensor, margin: float) -> Tensor:
    """Mean `relu(margin - det J)` over the cells of a grid `[B, H, W, 2]`; a scalar, >= 0.

    `det J` is the area a pixel cell takes up in the photo relative to its own: 1 for the identity,
    negative where the warp folds. Penalising small determinants keeps the warp a diffeomorphism
    (Haber, Modersitzki: "Image registration with guaranteed displacement regularity", IJCV 71(3),
    2007).
    """
    return mean((margin - jacobian_determinant(grid)).relu())
