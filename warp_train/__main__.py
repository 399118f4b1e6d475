"""`python -m warp_train` is `warp-train`."""

import os
import sys
from collections import namedtuple


def _forget_working_directory() -> None:
    """`-m` puts the working directory before everything: a `yaml.py` there would be run for ours.

    It goes last where the package itself lies there, and away where it is found without.
    """
    if sys.path[0] not in ("", os.getcwd()):  # noqa: PTH109 (the words of sys.path)
        return
    here = sys.path.pop(0)
    if not any(finder.find_spec("warp_train", None) for finder in sys.meta_path):
        sys.path.append(here)


if __name__ == "__main__":
    _forget_working_directory()
    from warp_train.cli import main

    code = main()
    # A KeyboardInterrupt that passed through exec(), as an import can run it, makes CPython end
    # `-m` by SIGINT in place of any exit code. The exec() behind a new namedtuple resets that.
    namedtuple("Reset", ())
    sys.exit(code)
