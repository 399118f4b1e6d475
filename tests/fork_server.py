"""Starts training processes without importing torch for each: one JSON list of arguments a line.

Answers with the process id, and with its exit status once it has ended. Each is a process of its
own that may be killed; its output goes to the file that the environment variable LOG names.
"""

import json
import os
import sys

import warp_train.training.stages  # noqa: F401  # what a training process imports
from warp_train.cli import main

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 99
        try:
            code = main(json.loads(line))
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
