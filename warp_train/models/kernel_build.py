"""Builds `_edge_kernel` while the package is installed. Nothing imports this afterwards.

Without a C compiler the installation goes on, and `edge_strips` does the work.
"""

from __future__ import annotations

import contextlib
from typing import Any

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import FileError

_FLAGS = [
    "-O3",
    "-fopenmp-simd",
    # Sums of floats may be reordered, without which they are not computed in vectors.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math"),
    *("-fno-signed-zeros", "-freciprocal-math"),
]


def _add_kernel(distribution: Any) -> None:
    if not distribution.ext_modules:
        distribution.ext_modules = [
            Extension(
                "warp_train.models._edge_kernel",
                [f"warp_train/models/_edge_{part}.c" for part in ("kernel", "points", "strips")],
                depends=["warp_train/models/_edge_kernel.h"],
                extra_compile_args=_FLAGS,
                optional=True,
            )
        ]


class BuildExt(build_ext):
    """Leaves the kernel beside its source as well.

    A program that is started in a clone by `python -m warp_train` imports the clone.
    """

    def run(self) -> None:
        super().run()
        with contextlib.suppress(FileError, OSError):  # a clone that cannot be written
            self.copy_extensions_to_source()


class Wheel(bdist_wheel):
    """A wheel with the kernel: setup.cfg itself cannot name extension modules."""

    def __init__(self, distribution: Any, **options: Any) -> None:
        _add_kernel(distribution)
        super().__init__(distribution, **options)


class EditableWheel(editable_wheel):
    """The same for `pip install -e`."""

    def __init__(self, distribution: Any, **options: Any) -> None:
        _add_kernel(distribution)
        super().__init__(distribution, **options)
