"""Damaged files as one clear line: the errors of decoders, and texts from files in messages."""

from __future__ import annotations

import builtins
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import UnidentifiedImageError

_LONGEST = 300
_UNNAMED = (UnidentifiedImageError, struct.error)

for _library in ("PIL", "imagecodecs", "tifffile"):  # their remarks would go to the terminal
    logging.getLogger(_library).addHandler(logging.NullHandler())


@contextmanager
def clear_errors() -> Iterator[None]:
    """Raises ValueError for any error of a decoding library, which may be of any type.

    The library's own words are repeated if they are about the file. MemoryError passes.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        words = words_of(error)
        raise ValueError(f"damaged ({words})" if words else "damaged") from error


def words_of(error: Exception) -> str:
    """The words of a library's own error; empty if it is one of Python's, which mean the code."""
    own = type(error).__name__ not in vars(builtins) or isinstance(error, OSError)
    return one_line(str(error), most=120) if own and not isinstance(error, _UNNAMED) else ""


def one_line(text: str, most: int = _LONGEST) -> str:
    """A text that may be from a file as one printable line; what is longer than `most` is cut."""
    visible = "".join(char if char.isprintable() else " " for char in text[: 4 * most])
    line = " ".join(visible.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
