"""Arrays within JSON, bit for bit."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def array_to_json(array: NDArray[Any]) -> list[Any]:
    """Type, shape and, as base64, the numbers."""
    content = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return [array.dtype.str, list(array.shape), content]


def array_from_json(value: list[Any]) -> NDArray[Any]:
    """The inverse of `array_to_json`: an array that may be written to."""
    kind, shape, content = value
    flat = np.frombuffer(base64.b64decode(content), np.dtype(kind))
    array: NDArray[Any] = flat.reshape(shape).copy()
    return array
