"""`launch/` through `accelerate launch` and `torchrun` themselves."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from runs_helpers import ENVIRONMENT, STAGES, arguments, losses, train

LAUNCH = Path(__file__).parents[1] / "launch"
WORLD = """
import torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
total = accelerator.reduce(torch.ones(1)).item()
print(f"rank {accelerator.process_index} of {accelerator.num_processes}, sum {total:.0f}")
accelerator.end_training()
"""


def test_two_cpu_processes_are_two(tmp_path: Path) -> None:
    script = tmp_path / "world.py"
    script.write_text(WORLD)
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli"]
    launched = subprocess.run(
        [*accelerate, "launch", "--config_file", str(LAUNCH / "cpu_2proc.yaml"), str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert sorted(re.findall(r"rank (\d) of (\d), sum (\d)", launched.stdout)) == [
        ("0", "2", "2"),
        ("1", "2", "2"),
    ]


def test_torchrun_trains_like_one_process(tmp_path: Path) -> None:
    stage, more = STAGES[0], ("train.max_steps=3", "data.train_samples=16", "train.device=cpu")
    assert train(stage, tmp_path / "one", *more) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program = ["-m", "warp_train", *arguments(stage, tmp_path / "two", *more)]
    launched = subprocess.run(
        [*torchrun, "--nproc_per_node", "2", *program, "train.batch_size=2"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert "(2 processes)" in launched.stderr
    alone, together = losses(tmp_path / "one" / stage), losses(tmp_path / "two" / stage)
    assert [step for step, _ in together] == [1, 2, 3]
    assert dict(together) == pytest.approx(dict(alone), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "machines", "processes"),
    [("one_gpu", 1, 1), ("multi_gpu", 1, 8), ("multi_node", 2, 16), ("cpu_2proc", 1, 2)],
)
def test_accelerate_reads_the_configs(name: str, machines: int, processes: int) -> None:
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert (config.num_machines, config.num_processes) == (machines, processes)
    assert config.mixed_precision == "no"


SLURM = {
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_NNODES": "2",
    "SLURM_JOB_ID": "12345",
    "SLURM_JOB_NODELIST": "node[7-8]",
}


def slurm_job(tools: Path, srun: str, accelerate: str, *arguments: str) -> subprocess.Popen[str]:
    """The Slurm script as a job on a cluster whose commands are these shell scripts."""
    for name, body in {
        "scontrol": 'if [ "$1" = requeue ]; then echo "$@"; else echo "node7\nnode8"; fi',
        "srun": srun,
        "accelerate": accelerate,
    }.items():
        tool = tools / name
        tool.write_text(f"#!/bin/bash\n{body}\n")
        tool.chmod(0o755)
    return subprocess.Popen(
        ["bash", str(LAUNCH / "slurm_multi_node.sbatch"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **SLURM, "PATH": f"{tools}:{os.environ['PATH']}"},
    )


@pytest.mark.parametrize(
    ("number", "trained", "said", "code"),
    [
        (signal.SIGUSR1, "exit 143", ["saved", "requeue 12345"], 0),
        (signal.SIGUSR1, "exit 0", ["saved"], 0),  # it was finished just then
        (signal.SIGTERM, "exit 143", ["saved"], 143),  # cancelled by a person
    ],
)
def test_the_slurm_script_requeues_itself_when_its_time_is_up(
    number: int, trained: str, said: list[str], code: int, tmp_path: Path
) -> None:
    job = slurm_job(
        tmp_path,
        srun='shift; exec "$@"',
        accelerate=f"""trap 'sleep 0.3; echo saved; {trained}' TERM
echo up
while :; do sleep 0.05; done""",
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "up\n"
    job.send_signal(number)
    rest, _ = job.communicate(timeout=30)
    assert rest.splitlines() == said
    assert job.returncode == code


def test_the_slurm_script_is_valid_shell_and_counts_processes(tmp_path: Path) -> None:
    job = slurm_job(
        tmp_path,
        'shift\nfor SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        'echo "$@"',
        "r.yaml",
        "run_name=a b",
    )
    printed, _ = job.communicate(timeout=30)
    assert job.returncode == 0
    lines = printed.splitlines()
    assert len(lines) == 2
    for rank, line in enumerate(lines):
        assert f"--num_machines 2 --num_processes 8 --machine_rank {rank} " in line
        assert "--main_process_ip node7 --main_process_port 32345 " in line
        assert line.endswith("train r.yaml run_name=a b --resume-from auto")
