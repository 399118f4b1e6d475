"""The files of `launch/` for containers and clusters, as far as they can be checked without any."""

import configparser
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml
from runs_helpers import ROOT
from torch.distributed.run import get_args_parser

from warp_train.cli import _parse
from warp_train.recipe import load_recipe

LAUNCH = ROOT / "launch"
INSTRUCTIONS = {"FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def trained_by_torchrun(words: list[str], *, nodes: int, gpus: int, rank: int) -> None:
    """Parses the arguments of torchrun and the command that it starts, as the programs do."""
    parsed = get_args_parser().parse_args(words)
    assert (int(parsed.nnodes), int(parsed.nproc_per_node), parsed.node_rank) == (nodes, gpus, rank)
    assert (parsed.module, parsed.training_script) == (True, "warp_train")
    command = _parse(parsed.training_script_args)
    assert (command.command, command.resume_from) == ("train", "auto")
    chain = load_recipe(command.recipe, command.overrides)
    assert Path(chain.output_dir).is_absolute(), "outside of the node, where all nodes can read it"


# -------------------------------------------------------------------------------------- Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = (LAUNCH / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined)]


def of(name: str) -> list[str]:
    return [rest for other, rest in instructions() if other == name]


def sources() -> list[str]:
    """What the image copies from the repository."""
    words = [[w for w in shlex.split(rest) if not w.startswith("--")] for rest in of("COPY")]
    return [source for *copied, _ in words for source in copied]


def test_the_dockerfile_builds_from_what_is_there() -> None:
    names = [name for name, _ in instructions()]
    assert set(names) == INSTRUCTIONS
    assert names[0] == "FROM"
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    for source in sources():
        assert (ROOT / source).exists(), source
        assert not tracked or any(f"{path}/".startswith(f"{source}/") for path in tracked), source
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(sources())


def test_the_image_installs_all_that_the_package_is_built_from() -> None:
    metadata = SETUP["metadata"]
    readme = metadata["long_description"].removeprefix("file: ")
    needed = {"setup.cfg", "pyproject.toml", "warp_train", readme, metadata["license_files"]}
    assert needed <= set(sources())
    (installed,) = (rest for rest in of("RUN") if "pip install" in rest)
    extras = re.search(r"\[([\w,]+)\]", installed)
    assert extras
    assert set(extras[1].split(",")) <= set(SETUP["options.extras_require"])
    assert any("gcc" in rest and "python3-dev" in rest for rest in of("RUN"))  # the C code


def test_the_image_is_the_program_of_a_user_who_is_not_root() -> None:
    (entry,), (user,) = of("ENTRYPOINT"), of("USER")
    scripts = re.findall(r"^([\w-]+) =", SETUP["options.entry_points"]["console_scripts"], re.M)
    assert yaml.safe_load(entry) == scripts == ["warp-train"]
    assert int(user) > 0, "a number, so that Kubernetes sees that it is not root"
    assert any(f"--uid {user} " in f"{rest} " for rest in of("RUN"))
    after = instructions()[[name for name, _ in instructions()].index("USER") :]
    assert not any("apt-get" in rest or "pip " in rest for _, rest in after)


# -------------------------------------------------------------------------------------- Kubernetes


def as_model(value: Any, kind: str) -> Any:
    """Builds an object of Kubernetes' own API classes; unknown and missing fields are errors."""
    listed = re.fullmatch(r"[Ll]ist\[(.+)\]", kind)
    mapped = re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind)
    if listed:
        return [as_model(part, listed[1]) for part in value]
    if mapped:
        return {name: as_model(part, mapped[1]) for name, part in value.items()}
    model = getattr(kubernetes.client, kind, None)
    if model is None:
        assert type(value).__name__ == kind, f"{value} is not of the type {kind}"
        return value
    fields = {json: python for python, json in model.attribute_map.items()}
    assert set(value) <= set(fields), f"{kind} has no {set(value) - set(fields)}"
    return model(
        **{
            fields[name]: as_model(part, model.openapi_types[fields[name]])
            for name, part in value.items()
        }
    )


def kubernetes_objects() -> tuple[Any, Any]:
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    return as_model(service, "V1Service"), as_model(job, "V1Job")


def test_the_pods_of_the_kubernetes_job_find_each_other_and_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    service, job = kubernetes_objects()
    pod = job.spec.template.spec
    (container,) = pod.containers
    assert service.spec.cluster_ip == "None"
    assert service.spec.selector == {"job-name": job.metadata.name}
    assert pod.subdomain == service.metadata.name
    assert (job.spec.completion_mode, job.spec.completions) == ("Indexed", job.spec.parallelism)
    assert f"--master_addr={job.metadata.name}-0.{service.metadata.name}" in container.args
    assert container.command == ["torchrun"]
    for rank in range(job.spec.completions):
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(rank)) for word in container.args]
        gpus = int(container.resources.limits["nvidia.com/gpu"])
        trained_by_torchrun(words, nodes=job.spec.completions, gpus=gpus, rank=rank)
    assert {mount.name for mount in container.volume_mounts} == {v.name for v in pod.volumes}
    assert pod.security_context.fs_group == int(of("USER")[0])


def test_a_field_that_kubernetes_does_not_have_is_found() -> None:
    with pytest.raises(AssertionError, match=r"V1Job has no .'specs'"):
        as_model({"specs": {}}, "V1Job")
    with pytest.raises(ValueError, match="template"):
        as_model({"spec": {"completions": 2}}, "V1Job")


# ---------------------------------------------------------------------------------------- SkyPilot

TASK_KEYS = {"name", "workdir", "num_nodes", "resources", "volumes", "file_mounts", "setup", "run"}
SKY = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


def test_the_skypilot_task_has_documented_keys() -> None:
    assert set(SKY) <= TASK_KEYS
    assert set(SKY["resources"]) <= {"accelerators", "cpus", "memory", "infra", "use_spot"}
    for mount in SKY["file_mounts"].values():
        assert set(mount) == {"source", "mode"}
        assert mount["mode"] in ("COPY", "MOUNT", "MOUNT_CACHED")
    assert "pip install '.[wandb]'" in SKY["setup"]


def test_the_nodes_of_the_skypilot_task_train_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    torchrun = tmp_path / "venv" / "bin" / "torchrun"
    torchrun.parent.mkdir(parents=True)
    torchrun.write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    torchrun.chmod(0o755)
    node = {
        "HOME": str(tmp_path),
        "SKYPILOT_NUM_NODES": str(SKY["num_nodes"]),
        "SKYPILOT_NUM_GPUS_PER_NODE": SKY["resources"]["accelerators"].partition(":")[2],
        "SKYPILOT_NODE_IPS": "10.0.0.7\n10.0.0.8",
        "SKYPILOT_NODE_RANK": "1",
    }
    printed = subprocess.run(
        ["bash", "-c", SKY["run"]],
        env={**os.environ, **node},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    trained_by_torchrun(printed, nodes=2, gpus=8, rank=1)
    assert "--master_addr=10.0.0.7" in printed
    (mounted, volume) = (*SKY["file_mounts"], *SKY["volumes"])
    assert any(word.startswith(f"data.root={mounted}/") for word in printed)
    assert any(word.startswith(f"output_dir={volume}/") for word in printed)
