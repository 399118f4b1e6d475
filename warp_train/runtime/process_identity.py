"""What tells one process from every other: its machine, the time of its start, its launch."""

import os
import socket
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

_STATE, _STARTED = 0, 19
"""Places in /proc/<pid>/stat, counted behind the program's name; see proc(5)."""
_DEAD_STATES = "ZXx"


@lru_cache(maxsize=1)
def machine_id() -> str:
    """Names the set of processes that this process's number belongs to: this boot of this machine
    and, in a container, its own numbers. Empty where that is unknown."""
    if sys.platform != "linux":
        return socket.gethostname() if os.name == "posix" else ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """When a process of this machine was started; empty if it is dead, as a zombie is, or where
    `machine_id` is empty."""
    if not machine_id():
        return ""
    if sys.platform != "linux":
        command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
        fields = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return "" if not fields or fields[0][0] in _DEAD_STATES else " ".join(fields[1:])
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[_STATE] in _DEAD_STATES else fields[_STARTED]


def launch_id() -> str:
    """Equal in all processes that a launcher has started to train together; empty for a process
    that trains alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
