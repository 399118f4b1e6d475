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
    for _ in range(20):
        torch.ones(3_000_000)
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
    assert page_faults("") > 20 * 1000  # 20 blocks of 2900 pages each
    assert page_faults(keep) < 1000
    assert page_faults(keep, MALLOC_TRIM_THRESHOLD_="131072") > 20 * 1000  # tuned by the user
