"""Freed memory stays in the process, as the kernel counts it."""

import subprocess
import sys

import pytest

CODE = """
import resource
{prepare}
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(10):
        torch.ones(12_000_000)
work()
before = faults()
work()
print(faults() - before)
"""


def page_faults(prepare: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(prepare=prepare)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_a_block_of_a_size_seen_before_costs_no_pages() -> None:
    keep = "from warp_train.runtime.memory import keep_memory; keep_memory()"
    assert page_faults("") > 50_000  # 10 blocks of 11 719 pages each
    assert page_faults(keep) < 1000
    assert page_faults(keep, MALLOC_TRIM_THRESHOLD_="131072") > 50_000  # tuned by the user
