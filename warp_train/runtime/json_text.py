"""JSON without NaN and infinity, which other programs cannot read."""

import json
import math
from collections.abc import Mapping
from typing import Any

_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
"""Characters that some readers take for the end of a line."""


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text in which numbers that are not finite are null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of a JSON Lines file, as UTF-8. Names of files may hold bytes that are no UTF-8:
    they are escaped as JSON escapes lone surrogates."""
    return to_json(row).translate(_ESCAPED).encode("utf-8", "backslashreplace") + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
