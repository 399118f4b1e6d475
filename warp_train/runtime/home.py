"""`~` at the start of a path: a shell leaves it in `--out=~/new` and in `output_dir=~/runs`."""

import os


def with_home(path: str) -> str:
    """The path with the user's home in place of `~`; `~name` stays where there is no such user."""
    return os.path.expanduser(path)  # noqa: PTH111 (Path's own raises where there is none)
