"""The lenses of a recipe: drawn from a distribution, or real calibrations."""

from warp_train.data.config import DataConfig
from warp_train.data.lenses import AnalyticLenses, LensSampler
from warp_train.data.lensfun_lenses import lensfun_lenses


def lens_samplers(config: DataConfig) -> tuple[LensSampler, LensSampler]:
    """The lens samplers of the training and of the validation samples, as set by `data.lenses`.

    Raises:
        WarpTrainError: lensfun is not installed, or no calibration meets `data.lensfun`.
    """
    if config.lenses == "lensfun":
        return lensfun_lenses(config.lensfun, config.lens)
    lenses = AnalyticLenses(config.lens)
    return lenses, lenses
