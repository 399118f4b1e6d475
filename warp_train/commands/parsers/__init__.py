"""The parsers of all commands; nothing heavy is imported, so that help is instant."""

from warp_train.commands.parsers import (
    bench,
    check,
    evaluate,
    export,
    prepare,
    recipes,
    recover,
    rectify,
    schema,
    score,
    straightness,
    train,
)

PARSERS = (
    train,
    recipes,
    check,
    schema,
    bench,
    evaluate,
    straightness,
    rectify,
    recover,
    prepare,
    score,
    export,
)
"""In the order of `warp-train --help`."""

__all__ = ["PARSERS"]
