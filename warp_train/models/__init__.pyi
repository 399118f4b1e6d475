from .config import UNCERTAINTY_FACTORS, ModelConfig, ParamBounds, TrainedOn
from .hybrid_model import HybridModel, Prediction
from .pretrained import (
    from_pretrained,
    load_weights,
    model_description,
    push_to_hub,
    read_description,
    save_pretrained,
)

__all__ = [
    "UNCERTAINTY_FACTORS",
    "HybridModel",
    "ModelConfig",
    "ParamBounds",
    "Prediction",
    "TrainedOn",
    "from_pretrained",
    "load_weights",
    "model_description",
    "push_to_hub",
    "read_description",
    "save_pretrained",
]
