"""`python -m warp_train` is `warp-train`."""

import sys

from warp_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
