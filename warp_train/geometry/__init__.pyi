from .colour import luma
from .coordinates import (
    end_point_error,
    end_point_error_percent,
    full_precision,
    grid_to_pixels,
    half_diagonal,
    identity_grid,
    isotropic_scale,
    percent_to_px,
    planes,
)
from .fit import fit_lens
from .fusion import fuse_grids
from .jacobian import jacobian_determinant, jacobian_stats, out_of_bounds
from .lens_grid import (
    IDENTITY_PARAMS,
    PARAM_NAMES,
    apply_lens,
    build_parametric_grid,
    invert_lens,
    rescale_params,
)
from .lines import StraightLines, straight_lines
from .residual_flow import upsample_residual_flow
from .safety import SafetyReport, evaluate_safety
from .safety_config import SafetyConfig
from .warp import warp_image
from .zoom import covering_zoom

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
    "end_point_error_percent",
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
    "luma",
    "out_of_bounds",
    "percent_to_px",
    "planes",
    "rescale_params",
    "straight_lines",
    "upsample_residual_flow",
    "warp_image",
]
