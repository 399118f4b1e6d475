"""The rooms of the package, and which of them may import which: read from the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from runs_helpers import ROOT

PACKAGE = ROOT / "warp_train"
FLOORS = (
    {"__init__"},  # the front door: imports nothing before it is used, and holds the version
    {"runtime", "geometry", "weights"},
    {"models", "losses", "data", "metrics", "photos", "recipe"},
    {"inference", "training", "registration"},
    {"benchmark", "evaluation", "export"},
    {"commands"},
    {"cli", "__main__"},
)
"""From the ground up. A room imports its own floor, without circles, and the floors below."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_FILE = 300


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> Iterator[str]:
    """What a file imports, also within functions and for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are for the faces' stubs"
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                yield submodule if submodule in MODULES else str(node.module)


IMPORTS = {module: set(imported(path)) for module, path in MODULES.items()}
OURS = {module: names & MODULES.keys() for module, names in IMPORTS.items()}


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} == FLOOR.keys()


def test_no_import_runs_up() -> None:
    upward = [
        f"{module} -> {name}"
        for module, names in OURS.items()
        for name in names
        if FLOOR[room_of(name)] > FLOOR[room_of(module)]
    ]
    assert upward == []


@pytest.mark.parametrize("whole_rooms", [False, True], ids=["modules", "rooms"])
def test_nothing_imports_in_a_circle(whole_rooms: bool) -> None:
    graph: dict[str, set[str]] = {}
    for module, names in OURS.items():
        here = room_of(module) if whole_rooms else module
        others = {room_of(name) if whole_rooms else name for name in names}
        graph.setdefault(here, set()).update(others - {here})
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("accelerate", {"training", "benchmark"}),
        ("argparse", {"commands", "cli", "benchmark"}),
        ("multiprocessing", {"runtime", "data", "benchmark"}),
        ("tqdm", {"runtime", "training"}),
        ("jinja2", {"evaluation"}),
        ("warp_train.models", {"recipe", "inference", "training", "evaluation", "commands"}),
    ],
)
def test_a_library_stays_in_its_rooms(library: str, rooms: set[str]) -> None:
    users = {
        room_of(module)
        for module, names in IMPORTS.items()
        if any(name == library or name.startswith(f"{library}.") for name in names)
    }
    assert users - {room_of(library)} <= rooms


def test_photos_and_geometry_depend_on_no_network() -> None:
    below = {"photos": {"photos", "runtime"}, "geometry": {"geometry"}, "runtime": {"runtime"}}
    for module, names in OURS.items():
        if room_of(module) in below:
            assert {room_of(name) for name in names} <= below[room_of(module)], module


def test_no_file_is_long() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in lengths.items() if n > LONGEST_FILE} == {}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("warp_train", "torch numpy cv2 pydantic"),
        ("warp_train.cli", "torch numpy cv2 pydantic tqdm"),
        ("warp_train.recipe", "torch numpy cv2 accelerate"),
        ("warp_train.data.config", "torch numpy cv2"),
        ("warp_train.losses.config", "torch numpy cv2"),
        ("warp_train.models.config", "torch numpy cv2"),
        ("warp_train.runtime.worker_pool", "torch cv2"),
        ("warp_train.metrics", "torch"),
    ],
)
def test_importing_is_light(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print(*({heavy.split()} & sys.modules.keys()))"
    code = code.replace("[", "{").replace("]", "}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
