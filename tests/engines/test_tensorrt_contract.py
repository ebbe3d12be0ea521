"""Our code against TensorRT's official bindings, without its builder: names, signatures, the plugin, a failing start.

This proves that every name is there and takes what we give it, and what the plugin answers. It never proves that an
engine builds: `tests/gpu` does, on a machine that has TensorRT and a GPU.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import official_tensorrt as official
import pytest
from tensorrt_names import Signature, declared, fits

from export.exported import ExportedGraph

HERE, ENGINES = Path(__file__).parent, official.ROOT / "engines"
PINNED = ("tensorrt-10.15.json", "tensorrt-10.16.json")
YOUNGER_THAN_JETPACK_6 = {"HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY", "SerializationFlag.INCLUDE_REFIT"}
"""What an option and a refit need, which are refused there; and all of `tensorrt.plugin`."""
MODULES = sorted(
    path
    for room in ("plan", "tensorrt")  # `test_rtx_contract.py` has the other module's
    for path in (ENGINES / room).glob("*.py")
    if re.search(r"import tensorrt\b|\.trt\.", path.read_text(encoding="utf-8"))
)

needs_bindings = pytest.mark.skipif(bool(official.missing()), reason=official.missing())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return official.make_environment(tmp_path_factory.mktemp("official"))


def misfits(offered: dict[str, list[list[list[str]]] | None]) -> list[str]:
    """Return the names of the typings that a TensorRT has not, or has otherwise."""
    missing = [name for name in declared() if name not in offered]
    return missing + [
        name for name, wanted in declared().items() if name in offered and not taken(wanted, offered[name])
    ]


def taken(wanted: Signature | None, overloads: list[list[list[str]]] | None) -> bool:
    pairs = None if overloads is None else [[(name, kind) for name, kind in signature] for signature in overloads]
    return fits(wanted, pairs)


@pytest.mark.parametrize("file", PINNED)
def test_the_typings_fit_the_oldest_versions(file: str) -> None:
    """Read once from the official bindings by `tensorrt_names.py`, since only one version can be installed."""
    content = json.loads((HERE / file).read_text(encoding="utf-8"))
    assert file == f"tensorrt-{'.'.join(content['version'].split('.')[:2])}.json"
    assert misfits(content["offered"]) == []


def test_what_builds_portable_graphs_is_in_jetpack_6() -> None:
    content = json.loads((HERE / "tensorrt-10.3.json").read_text(encoding="utf-8"))
    assert content["version"].startswith("10.3.")
    lacking = misfits(content["offered"])
    assert {name for name in lacking if not name.startswith("plugin.")} == YOUNGER_THAN_JETPACK_6
    assert not any(name.startswith("plugin.") for name in content["offered"])


@needs_bindings
def test_the_typings_fit_the_installed_version(environment: dict[str, str], tmp_path: Path) -> None:
    done = official.run(environment, HERE / "tensorrt_names.py", tmp_path / "names.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))
    assert content["version"] == official.installed_version()
    assert len(content["offered"]) > 100
    assert misfits(content["offered"]) == []


def test_the_comparison_finds_what_is_wrong() -> None:
    offered = json.loads((HERE / PINNED[0]).read_text(encoding="utf-8"))["offered"]
    name = "IExecutionContext.set_tensor_address"
    assert misfits({key: value for key, value in offered.items() if key != name}) == [name]
    for wrong in (None, [], [[["name", "str"], ["address", "int"], ["return", "bool"]]]):
        assert misfits({**offered, name: wrong}) == [name]
    for kinds in (("str", "str", "bool"), ("str", "int", "None")):
        signature = [list(pair) for pair in zip(("name", "memory", "return"), kinds, strict=True)]
        assert misfits({**offered, name: [signature]}) == [name]
    more = [["name", "str"], ["memory", "int"], ["stream", "int"], ["return", "bool"]]
    assert misfits({**offered, name: [more]}) == [name]
    assert misfits({**offered, name: [[*more[:2], ["stream=", "int"], more[3]]]}) == []


def test_the_modules_that_use_tensorrt_are_found() -> None:
    assert len(MODULES) >= 8


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_name_of_tensorrts_is_in_the_typings(module: Path) -> None:
    """What is reached through a variable is mypy's to check, against the same typings."""
    prefixes = {"trt": "", "tensorrt": "", "trtp": "plugin."}
    chains = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        root, *names = text.removeprefix("plan_api.").removeprefix("self.").split(".")
        if root in prefixes and names and all(name.isidentifier() for name in names):
            chains.add(prefixes[root] + ".".join(names))
    assert chains
    assert [chain for chain in sorted(chains) if chain not in declared()] == []


@needs_bindings
def test_the_plugin(environment: dict[str, str], half_generator: ExportedGraph) -> None:
    done = official.run(environment, HERE / "official_plugin.py", half_generator.path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["nodes"] == 1
    assert report["registered"] == [["Correlate", "outfitgan", "1"]]
    assert set(report["attributes"]) == {"temperature"}
    assert report["attributes"]["temperature"] == pytest.approx(0.02, rel=1e-6)
    assert "builds for other GPUs already" in report["refused"]
    for name, kind, last, tactics in (("half", "HALF", "HWC8", [1, 2]), ("float", "FLOAT", "HWC", [1])):
        answers = report[name]
        assert answers["types"] == [kind]
        assert answers["warped"] == [3, 24, 20, 9]  # the batch and grid of the target, the channels of the values
        assert [launch["formats"] for launch in answers["launches"]] == [[last] * 4, ["LINEAR"] * 4]
        for launch in answers["launches"]:
            assert launch["tactics"] == tactics
            check_launch(SimpleNamespace(**launch))


def check_launch(launch: Any) -> None:
    assert launch.target == "sm_80"
    assert launch.extras == [20 * 9, 7 * 5]
    assert launch.extras_are_32_bits
    sizes = launch.sizes
    assert sizes["grid_y"] == 3
    assert (sizes["block_y"], sizes["block_z"]) == (1, 1)
    rows = [rows for rows in (16, 32, 64, 128) if -(-20 * 9 // rows) == sizes["grid_x"]]
    assert rows
    assert sizes["block_x"] % 32 == 0
    assert f".reqntid {sizes['block_x']}" in launch.ptx
    assert 0 < sizes["shared_mem"] <= 48 * 1024
    # Three inputs, two integers, the output, and two pointers for scratch memory of no bytes.
    kinds = [word for word in launch.ptx.split(")")[0].split() if word in (".u64", ".u32")]
    assert kinds == [".u64"] * 3 + [".u32"] * 2 + [".u64"] * 3


@needs_bindings
def test_a_tensorrt_that_cannot_start_is_an_error(environment: dict[str, str]) -> None:
    """Without a driver its runtime is an empty object, and the next call on it would end the process."""
    code = (
        "import tensorrt as trt\n"
        "from engines.plan.runner import load_plan\n"
        "from engines.plan.api import api\n"
        "from outfitgan.errors import EngineError\n"
        "own = api('tensorrt')\n"
        "for start in (lambda: load_plan(own, b'plan', 'bag', False), lambda: own.started(trt.Builder)):\n"
        "    try:\n"
        "        start()\n"
        "    except EngineError as error:\n"
        "        print(error)\n"
    )
    done = official.run(environment, "-c", code)
    assert done.returncode == 0, done.stderr
    runtime, builder = done.stdout.splitlines()
    for line in (runtime, builder):
        assert line.startswith(f"TensorRT {official.installed_version()} does not start here (")
        assert line.endswith("); update the NVIDIA driver.")
    assert "CUDA initialization failure" in runtime


@needs_bindings
def test_the_runner_imports_nothing_but_numpy_and_tensorrt(environment: dict[str, str]) -> None:
    """PyCUDA is imported when an engine is opened."""
    code = (
        "import sys\n"
        "import engines.plan.runner, engines.tensorrt.tensorrt_runtime, engines.registry\n"
        "from engines.plan.api import api; api('tensorrt')\n"
        "names = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in names if not name.startswith(('_', 'cython'))))\n"
    )
    done = official.run(environment, "-c", code)
    assert done.returncode == 0, done.stderr
    expected = ["engines", "export", "numpy", "outfitgan", "tensorrt"]
    assert ast.literal_eval(done.stdout) == expected


@needs_bindings
def test_the_builder_imports_no_torch(environment: dict[str, str]) -> None:
    code = (
        "import sys, engines.tensorrt.build, engines.tensorrt.refit\n"
        "print([name for name in ('torch', 'triton', 'onnxscript') if name in sys.modules])\n"
    )
    done = official.run(environment, "-c", code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@needs_bindings
def test_our_classes_are_tensorrts(environment: dict[str, str]) -> None:
    """pybind11 refuses an object whose base was not initialised, and an override that is missing."""
    code = (
        "import tensorrt as trt\n"
        "from engines.plan.api import api\n"
        "from outfitgan.errors import EngineError\n"
        "seen, own = [], api('tensorrt')\n"
        "times, progress = own.layer_times(), own.progress(lambda *told: seen.append(told))\n"
        "try:\n"
        "    own.started(trt.Runtime)  # tells the log from C++ that it cannot start\n"
        "except EngineError as error:\n"
        "    print('CUDA' in str(error))\n"
        "progress.phase_start('outer', None, 4); progress.phase_start('inner', 'outer', 2)\n"
        "print(progress.step_complete('inner', 0), progress.step_complete('outer', 1), seen[-1])\n"
        "times.report_layer_time('conv', 0.5); times.report_layer_time('conv', 0.25)\n"
        "print(times.milliseconds)\n"
        "print([type(made).__bases__[1].__name__ for made in (own.log, times, progress)])\n"
    )
    done = official.run(environment, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True",
        "True True ('outer', 2, 4)",
        "{'conv': 0.75}",
        "['ILogger', 'IProfiler', 'IProgressMonitor']",
    ]


@needs_bindings
def test_build_progress_names_its_arguments_as_tensorrt_does(environment: dict[str, str]) -> None:
    code = (
        "import inspect, json\n"
        "import tensorrt as trt\n"
        "from engines.plan.log import BuildProgress, LayerTimes, Log\n"
        "bases = {BuildProgress: trt.IProgressMonitor, LayerTimes: trt.IProfiler, Log: trt.ILogger}\n"
        "own = {f'{base.__name__}.{n}': list(inspect.signature(f).parameters)[1:]\n"
        "       for k, base in bases.items() for n, f in vars(k).items()\n"
        "       if inspect.isfunction(f) and hasattr(base, n) and n != '__init__'}\n"
        "print(json.dumps(own))\n"
    )
    own = json.loads(official.run(environment, "-c", code).stdout)
    assert set(own) == {
        "IProgressMonitor.phase_start",
        "IProgressMonitor.step_complete",
        "IProgressMonitor.phase_finish",
        "IProfiler.report_layer_time",
        "ILogger.log",
    }
    for name, parameters in own.items():
        signature = declared()[name]
        assert signature is not None
        assert parameters == [parameter for parameter, _ in signature[:-1]]


def test_the_cuda_graphs_calls_are_cuda_bindings() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings, of the extra [contract], is not here")
    tree = ast.parse((ENGINES / "plan" / "cuda.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    given = {call.func.attr: len(call.args) for call in calls if call.func.attr.startswith("cu")}  # type: ignore[attr-defined]
    assert set(given) == {
        "cuStreamBeginCapture",
        "cuStreamEndCapture",
        "cuGraphInstantiate",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    }
    for name, count in given.items():
        assert len(inspect.signature(getattr(driver, name)).parameters) == count, name
    assert int(driver.CUstream(5)) == 5  # made of PyCUDA's handle
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("CU")}
    owners = (driver, driver.CUresult, driver.CUstreamCaptureMode)
    assert [name for name in sorted(names) if not any(hasattr(owner, name) for owner in owners)] == []


def test_the_simulated_tensorrt_has_nothing_of_its_own(gpu: SimpleNamespace) -> None:
    """What stands in for TensorRT in the other tests takes what the typings say, and so what the bindings take."""
    for name, wanted in declared().items():
        if wanted is None or name.startswith("plugin."):
            continue
        owner: Any = gpu.trt
        *parents, leaf = name.split(".")
        for part in parents:
            owner = getattr(owner, part)
        if leaf.startswith("__") and leaf != "__init__":
            continue
        parameters = [p for p in inspect.signature(getattr(owner, leaf)).parameters if p != "self"]
        assert parameters == [parameter for parameter, _ in wanted[:-1]], name
