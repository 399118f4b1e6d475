"""One thread a process: the frames are tiny, and sums come out the same in every process."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch
