from .inference.straightener import Straightener
from .models import from_pretrained
from .runtime.errors import WarpTrainError

__all__ = ["Straightener", "WarpTrainError", "__version__", "from_pretrained"]

__version__: str
