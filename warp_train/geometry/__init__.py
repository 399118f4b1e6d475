"""Warps as grids: the lens, the residual, their fusion, resampling and safety. Plain torch."""

from warp_train.geometry.coordinates import (
    end_point_error,
    full_precision,
    grid_to_pixels,
    half_diagonal,
    identity_grid,
    isotropic_scale,
    planes,
)
from warp_train.geometry.covering_zoom import covering_zoom
from warp_train.geometry.fit import fit_lens
from warp_train.geometry.fusion import fuse_grids
from warp_train.geometry.jacobian import jacobian_determinant, jacobian_stats, out_of_bounds
from warp_train.geometry.lens_grid import (
    IDENTITY_PARAMS,
    PARAM_NAMES,
    apply_lens,
    build_parametric_grid,
    invert_lens,
    rescale_params,
)
from warp_train.geometry.residual_flow import upsample_residual_flow
from warp_train.geometry.safety import SafetyConfig, SafetyReport, evaluate_safety
from warp_train.geometry.straight_lines import StraightLines, straight_lines
from warp_train.geometry.warp import warp_image

__all__ = [
    "IDENTITY_PARAMS",
    "PARAM_NAMES",
    "SafetyConfig",
    "SafetyReport",
    "StraightLines",
    "apply_lens",
    "build_parametric_grid",
    "covering_zoom",
    "end_point_error",
    "evaluate_safety",
    "fit_lens",
    "full_precision",
    "fuse_grids",
    "grid_to_pixels",
    "half_diagonal",
    "identity_grid",
    "invert_lens",
    "isotropic_scale",
    "jacobian_determinant",
    "jacobian_stats",
    "out_of_bounds",
    "planes",
    "rescale_params",
    "straight_lines",
    "upsample_residual_flow",
    "warp_image",
]
