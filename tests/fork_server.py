"""Starts training processes without importing torch for each: one JSON list of requests a line.

A request is `{"argv": [...], "env": {...}, "cwd": ..., "before": ...}`, one process each; `before`
names a function as `module:function` to call first, or is null. Answers with a JSON list
of process ids, and with one of exit statuses once all have ended. Each is a process of its own that
may be killed; its output goes to the file that the environment variable LOG names. One that leaves
its process group open ends with status `GROUP_LEFT_OPEN`, whatever else it did. The line `end` ends
the server.
"""

import importlib
import json
import os
import sys
from typing import Any

GROUP_LEFT_OPEN = 98


def child(request: dict[str, Any]) -> None:
    log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 99
    try:
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        if request["before"]:
            module, _, function = request["before"].partition(":")
            getattr(importlib.import_module(module), function)()
        code = warp_train.cli.main(request["argv"])
        if torch.distributed.is_initialized():
            code = GROUP_LEFT_OPEN
    finally:
        os._exit(code)


if __name__ == "__main__":
    # Not in the scoring processes, which import this file too. The second is for its imports.
    import torch

    import warp_train.cli
    import warp_train.training.stages

    for line in iter(sys.stdin.readline, "end\n"):
        if not line:
            break
        pids = []
        for request in json.loads(line):
            pid = os.fork()
            if pid == 0:
                child(request)
            pids.append(pid)
        print(json.dumps(pids), flush=True)
        ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(ended), flush=True)
