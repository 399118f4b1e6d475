"""The lenses of a recipe: drawn from a distribution, real calibrations, or those of pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from warp_train.data.config import DataConfig
from warp_train.data.lenses import AnalyticLenses, Array, LensSampler
from warp_train.data.lensfun_lenses import lensfun_lenses
from warp_train.data.recovered_lenses import recovered_lenses
from warp_train.data.sources.warps import read_warps
from warp_train.runtime.errors import WarpTrainError


def lens_samplers(
    config: DataConfig, of_pairs: Sequence[Array] = ()
) -> tuple[LensSampler, LensSampler]:
    """The lens samplers of the training and of the validation samples, as set by `data.lenses`.

    Args:
        config: the `data` section.
        of_pairs: known lenses `[8]` of the training pairs, for `data.lenses: pairs`; not empty.

    Raises:
        WarpTrainError: lensfun is not installed, no calibration meets `data.lensfun`, or the file
            has no lens.
    """
    if config.lenses == "lensfun":
        return lensfun_lenses(config.lensfun, config.lens)
    if config.lenses == "analytic":
        lenses: LensSampler = AnalyticLenses(config.lens)
    elif config.lenses == "pairs":
        lenses = recovered_lenses(np.stack(of_pairs), config.lens.min_det)
    else:
        lenses = recovered_lenses(_in_file(Path(config.lenses)), config.lens.min_det)
    return lenses, lenses


def _in_file(path: Path) -> Array:
    warps = read_warps(path, "data.lenses")
    known = [warp.params for warp in warps.values() if np.isfinite(warp.params).all()]
    if not known:
        raise WarpTrainError(f"data.lenses: {path}: contains no lens that was recovered reliably")
    return np.stack(known)
