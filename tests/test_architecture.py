"""Which room may import which, read from the source; a lazy import counts, and one for types too."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVING = ("serving.client", "serving.models", "serving.repository", "serving.server")
BELOW: dict[str, tuple[str, ...]] = {
    "outfitgan": (),
    "outfitgan.ops": ("outfitgan",),
    "outfitgan.networks": ("outfitgan", "outfitgan.ops"),
    "outfitgan.data": ("outfitgan",),
    "outfitgan.training": ("outfitgan", "outfitgan.networks", "outfitgan.data"),
    "outfitgan.evaluation": ("outfitgan", "outfitgan.networks", "outfitgan.data", "outfitgan.training"),
    "outfitgan.experiments": (
        *("outfitgan", "outfitgan.networks", "outfitgan.data", "outfitgan.training", "outfitgan.evaluation"),
    ),
    "export": ("outfitgan", "outfitgan.networks", "outfitgan.data"),
    "engines": ("outfitgan", "export"),
    "engines.plan": ("outfitgan", "engines"),
    "engines.onnxruntime": ("outfitgan", "export", "engines", "engines.plan"),
    "engines.openvino": ("outfitgan", "export", "engines"),
    "engines.tensorrt_rtx": ("outfitgan", "export", "engines", "engines.plan"),
    "engines.tensorrt": ("outfitgan", "outfitgan.ops", "export", "engines", "engines.plan"),
    "serving.client": ("outfitgan",),
    "serving.server": ("outfitgan",),
    "serving.models": ("outfitgan", "engines"),
    "serving.repository": ("outfitgan", "engines", "engines.tensorrt", "serving.models"),
    "serving": ("outfitgan", "outfitgan.data", "outfitgan.training", "export", "engines", *SERVING),
    "serving.parity": ("outfitgan", "outfitgan.data", "outfitgan.training", "export", "engines", "serving", *SERVING),
    "triton_repo": ("outfitgan", "serving.models"),
    "bench": (
        *("outfitgan", "outfitgan.ops", "outfitgan.networks", "outfitgan.data", "outfitgan.training"),
        *("outfitgan.evaluation", "export", "engines", "serving", "serving.parity", *SERVING),
    ),
    "cli": (
        *("outfitgan", "outfitgan.ops", "outfitgan.data", "outfitgan.training", "outfitgan.evaluation"),
        *("outfitgan.experiments", "export", "engines", "serving", "serving.parity", *SERVING),
    ),
}
"""Room -> the rooms whose files its own files may import, besides each other. A room is the longest name that fits."""

DOORS = {"outfitgan.__main__": "cli.main"}
"""The one arrow up: `python -m outfitgan`."""

BY_NAME = {
    "bench.rows",  # bench.training_rows
    "cli.study_verbs",  # outfitgan.experiments
    "engines.plan.api",  # either TensorRT
    "engines.registry",  # engines.<runtime>
    "outfitgan.evaluation.metrics.feature_networks",  # another project's package
    "outfitgan.networks.efficientnet",  # likewise
}
"""Modules that import others by their names, in strings."""

PARALLEL = {"cpu.py", "gpu.py", "int8.py", "model.py", "__init__.py", "__main__.py"}
"""Names that recur: of the runtimes' files, of bench/int8.py and bench/gpu.py, and of Python's and Triton's."""


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = [Path(line) for line in listing.splitlines() if (ROOT / line).is_file()]
    return [file for file in files if file.parts[0] not in ("tests", "typings")]


def module_of(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


FILES = {module_of(file): file for file in tracked()}
PACKAGES = {module.partition(".")[0] for module in FILES}


def room_of(module: str) -> str:
    return max((room for room in BELOW if f"{module}.".startswith(f"{room}.")), key=len)


def imports_of(module: str) -> set[str]:
    """Return the modules of ours that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / FILES[module]).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    ours = {name for name in found if name.partition(".")[0] in PACKAGES}
    return {name if name in FILES else name.rpartition(".")[0] for name in ours}


IMPORTS = {module: imports_of(module) for module in FILES}


def test_the_source_is_read() -> None:
    assert len(FILES) > 200
    assert sum(map(len, IMPORTS.values())) > 800
    assert "serving.repository.assemble" in IMPORTS["cli.deploy_verbs"]  # a lazy one
    assert "export.exported" in IMPORTS["engines.host"]  # one for types


@pytest.mark.parametrize("room", BELOW)
def test_every_arrow_runs_down(room: str) -> None:
    mine = [module for module in FILES if room_of(module) == room]
    assert mine, f"there is no room {room}"
    up = [
        f"{module} imports {other}"
        for module in mine
        for other in sorted(IMPORTS[module])
        if room_of(other) not in (room, *BELOW[room]) and DOORS.get(module) != other
    ]
    assert up == []


def test_the_rooms_have_floors() -> None:
    """No two rooms are each above the other, so the table itself has no circle."""
    TopologicalSorter(BELOW).prepare()


def test_the_foundation_knows_nothing_above_it() -> None:
    above = {module for module in FILES if module.partition(".")[0] != "outfitgan"}
    climbing = {module: IMPORTS[module] & above for module in FILES if module.startswith("outfitgan")}
    assert {module: found for module, found in climbing.items() if found} == {
        module: {door} for module, door in DOORS.items()
    }


def test_no_circle_of_files() -> None:
    graph = {module: others - {module} for module, others in IMPORTS.items() if module not in DOORS}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_modules_named_in_strings_are_known() -> None:
    """What is imported by its name escapes the rules above, so there is little of it, and all of it is listed."""
    named = [module for module in FILES if "import_module(" in (ROOT / FILES[module]).read_text(encoding="utf-8")]
    assert sorted(named) == sorted(BY_NAME)


def test_the_wheel_holds_every_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {".".join(file.parent.parts) for file in FILES.values() if file.name != "model.py"} | {"triton_repo"}
    assert sorted(listed) == sorted(folders)


def test_an_editors_tabs_tell_files_apart() -> None:
    counts = Counter(file.name for file in FILES.values() if file.name not in PARALLEL)
    assert [name for name, count in counts.items() if count > 1] == []


def test_files_are_short() -> None:
    lengths = {str(file): len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in FILES.values()}
    assert {file: length for file, length in lengths.items() if length > 400} == {}


def test_constructors_say_what_they_take() -> None:
    silent = []
    for module, file in FILES.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                arguments = [*node.args.args, *node.args.kwonlyargs][1:]
                taken = Counter(argument.lineno for argument in arguments)
                silent += [
                    f"{module}:{argument.lineno} {argument.arg}"
                    for argument in arguments
                    if taken[argument.lineno] > 1 or "  # " not in lines[argument.lineno - 1]
                ]
    assert silent == []


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_loads_nothing_heavy() -> None:
    """So that `outfitgan --help` and `bench/run.py --help` answer at once."""
    heavy = {"torch", "onnx", "onnxruntime", "openvino", "tritonclient", "scipy", "pydantic", "tensorrt"}
    loaded = loaded_by("import cli.main")
    assert "typer" in loaded
    assert loaded & (heavy | {"numpy", "PIL"}) == set()
    assert loaded_by("import bench.run") & heavy == set()
