"""The network that comes with the package, by its name."""

from pathlib import Path

from warp_train.runtime.home import with_home

SHIPPED = "tiny"


def model_folder(name: str | Path) -> Path:
    """The folder that a MODEL or `init_from` names: `tiny` is the network of the package.

    A folder of one's own with that name is `./tiny`, or `Path("tiny")`.
    """
    return Path(__file__).parent / SHIPPED if name == SHIPPED else Path(with_home(str(name)))
