"""The lenses of a recipe: drawn, or real calibrations."""

from warp_train.data.config import DataConfig
from warp_train.data.lenses import AnalyticLenses, LensSampler
from warp_train.data.lensfun_lenses import lensfun_lenses


def lens_samplers(config: DataConfig) -> tuple[LensSampler, LensSampler]:
    """The lenses that bend the training and the validation samples, as `data.lenses` names them.

    Raises:
        WarpTrainError: lensfun is not installed, or has no lens of that kind.
    """
    if config.lenses == "lensfun":
        return lensfun_lenses(config.lensfun, config.lens)
    lenses = AnalyticLenses(config.lens)
    return lenses, lenses
