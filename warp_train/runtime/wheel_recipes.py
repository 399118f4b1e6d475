"""Puts the recipes into the package while a wheel is built. Nothing imports this afterwards."""

from pathlib import Path

from setuptools.command.build_py import build_py

_SOURCES = ("recipes/*.yaml", "recipes/recipe.schema.json")


class BuildPy(build_py):
    """Copies the clone's `recipes/` to `warp_train/recipes/`, where an installed program looks."""

    def run(self) -> None:
        super().run()
        for source, copy in self._recipes().items():
            self.mkpath(str(copy.parent))
            self.copy_file(str(source), str(copy))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *map(str, self._recipes().values())]

    def get_source_files(self) -> list[str]:
        """For a source distribution."""
        sources: list[str] = super().get_source_files()  # type: ignore[no-untyped-call]
        return [*sources, *map(str, _found())]

    def _recipes(self) -> dict[Path, Path]:
        """Files and their copies; none for `pip install -e`, which uses the clone's."""
        folder = Path(self.build_lib) / "warp_train" / "recipes"
        return {} if self.editable_mode else {path: folder / path.name for path in _found()}


def _found() -> list[Path]:
    return sorted(path for pattern in _SOURCES for path in Path().glob(pattern))
