"""Our code against TensorRT for RTX itself: every name and signature, its enumerations, and what it does without a GPU.

The builder is real here; what runs a plan is not, so its names are all that is held.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorrt_names
from rtx_cases import correlation, messages, needs_rtx, settings
from tensorrt_names import Signature, fits

from engines.tensorrt_rtx.capabilities import CAPABILITIES

pytestmark = needs_rtx

ROOT = Path(__file__).parents[2]
TYPINGS = ROOT / "typings" / "tensorrt_rtx" / "__init__.pyi"
MODULES = sorted(
    path
    for folder in ("plan", "tensorrt_rtx")
    for path in (ROOT / "engines" / folder).glob("*.py")
    if re.search(r"import tensorrt\w*\b|\.trt\.", path.read_text(encoding="utf-8"))
)


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


needs_no_driver = pytest.mark.skipif(_has_driver(), reason="it is about a machine without the NVIDIA driver")


def own() -> dict[str, Signature | None]:
    """Return the names of the typings of TensorRT for RTX."""
    return tensorrt_names._declared(ast.parse(TYPINGS.read_text(encoding="utf-8")).body, "")


def declared() -> dict[str, Signature | None]:
    """Return those names and TensorRT's, without its plugins."""
    shared = {name: kind for name, kind in tensorrt_names.declared().items() if not name.startswith("plugin.")}
    return {name: kind and [(part, plain(text)) for part, text in kind] for name, kind in (shared | own()).items()}


def offered(name: str) -> list[Signature] | None:
    """Return a name's overloads in the real module, None for what is not called; raise AttributeError if it is not."""
    import tensorrt_rtx

    leaf = name.rpartition(".")[2]
    value = inspect.getattr_static(tensorrt_names._owner(tensorrt_rtx, name), leaf)
    if not inspect.isroutine(value):
        return None
    return [[(part, plain(text)) for part, text in found] for found in tensorrt_names._overloads(value, leaf)]


def plain(kind: str) -> str:
    """Return a type without the module that it is of."""
    return re.sub(r"\b(tensorrt_rtx_bindings\.tensorrt_rtx\.|tensorrt\.|nvinfer1::)", "", kind)


@pytest.mark.parametrize("name", declared())
def test_every_name_of_the_typings_is_there(name: str) -> None:
    assert fits(declared()[name], offered(name)), (declared()[name], offered(name))


def test_the_comparison_finds_what_is_wrong() -> None:
    name = "IBuilderConfig.set_compute_capability"
    wanted = declared()[name]
    assert wanted == [("compute_capability", "ComputeCapability"), ("index", "int"), ("return", "bool")]
    for wrong in (None, wanted[1:], [wanted[0], ("place", "int"), wanted[2]], [*wanted[:2], ("return", "int")]):
        assert not fits(wrong, offered(name))
    with pytest.raises(AttributeError):
        offered("IBuilderConfig.set_compute_capabilities")
    assert offered("IRuntimeConfig.cuda_graph_strategy") is None
    assert len(offered("ICudaEngine.create_execution_context") or []) == 2


def test_the_modules_that_use_it_are_found() -> None:
    assert {path.name for path in MODULES} >= {"api.py", "execution.py", "network.py", "runner.py", "rtx_build.py"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_name_in_use_is_in_the_typings(module: Path) -> None:
    """What is reached through a variable is mypy's to check, against the same typings."""
    chains = set(names_of(ast.parse(module.read_text(encoding="utf-8"))))
    assert chains
    assert [chain for chain in sorted(chains) if chain not in declared()] == []


def names_of(tree: ast.AST) -> Iterator[str]:
    """Yield what follows trt or tensorrt_rtx, wherever it is kept."""
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        text = re.sub(r"^(self\._api|plan_api|self)\.", "", text)
        root, *names = text.split(".")
        if root in ("trt", "tensorrt_rtx") and names and all(name.isidentifier() for name in names):
            yield ".".join(names)


def test_compute_capabilities_and_options_are_the_librarys() -> None:
    """One of a later version is one that we could offer."""
    import tensorrt_rtx as trt

    known = {f"SM{capability.replace('.', '')}" for capability in CAPABILITIES}
    assert set(trt.ComputeCapability.__members__) == {"NONE", "CURRENT", *known}
    assert set(trt.DynamicShapesKernelSpecializationStrategy.__members__) == {"LAZY", "EAGER", "NONE"}
    assert set(trt.CudaGraphStrategy.__members__) == {"DISABLED", "WHOLE_GRAPH_CAPTURE"}
    assert [kind.name for kind in (trt.LayerType.ATTENTION_INPUT, trt.ProfilingVerbosity.DETAILED)]


def test_the_builder_is_told_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 is on unless it is cleared; a network is strongly typed without a flag."""
    import tensorrt_rtx as trt

    from engines.tensorrt_rtx.rtx_build import build_plan

    build, told = trt.Builder.build_serialized_network, []

    def listen(self: Any, network: Any, config: Any) -> Any:
        assert self.create_builder_config().get_flag(trt.BuilderFlag.TF32)
        assert not config.get_flag(trt.BuilderFlag.TF32)
        assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
        told.append([config.get_compute_capability(place).name for place in range(config.num_compute_capabilities)])
        return build(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", listen)
    build_plan(correlation(tmp_path / "one.onnx", 32, 32), settings(compute_capabilities="8.9,sm_120"))
    assert told == [["SM89"], ["SM120"], ["SM89", "SM120"]]


def test_the_simulated_one_has_nothing_of_its_own(gpu: SimpleNamespace) -> None:
    """What stands in for a GPU in the other tests takes what the typings say."""
    run = (
        "CudaGraphStrategy",
        "DynamicShapes",
        "IRuntimeC",
        "ICudaEngine.create_ex",
        "ICudaEngine.create_r",
        "Runtime",
    )
    held = {name: wanted for name, wanted in declared().items() if name.startswith(run)}
    assert len(held) > 15
    for name, wanted in held.items():
        *parents, leaf = name.split(".")
        owner: Any = gpu.rtx
        for part in parents:
            owner = getattr(owner, part)
        if wanted is not None:
            parameters = [p for p in inspect.signature(getattr(owner, leaf)).parameters if p != "self"]
            assert parameters == [parameter for parameter, _ in wanted[:-1]], name


# Without a GPU, in processes of their own: the library has one log for each


def printed(code: str, *arguments: Path) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real plan of one correlation."""
    from engines.tensorrt_rtx.rtx_build import build_plan

    folder = tmp_path_factory.mktemp("plan")
    path = folder / "model.plan"
    path.write_bytes(build_plan(correlation(folder / "one.onnx", 32, 32), settings())[0])
    return path


@needs_no_driver
def test_a_real_plan_is_refused_for_want_of_a_driver(plan: Path) -> None:
    """And one cut short, or junk, for what it is."""
    code = (
        "import pathlib, sys\n"
        "from engines.plan.api import api\n"
        "from engines.plan.runner import load_plan\n"
        "from outfitgan.errors import EngineError\n"
        "own, plan = api('tensorrt_rtx'), pathlib.Path(sys.argv[1]).read_bytes()\n"
        "for content in (plan, plan[:-100], b'junk' * 100):\n"
        "    try:\n"
        "        load_plan(own, content, 'bag', False)\n"
        "    except EngineError as error:\n"
        "        print(error)\n"
    )
    good, short, junk = printed(code, plan)
    for line in (good, short, junk):
        assert line.startswith(
            "TensorRT for RTX refuses the plan of bag (IRuntime::deserializeCudaEngine: Error Code 1: "
        )
        assert line.endswith("; build it again on this machine.")
    assert "cudaError 35: CUDA driver version is insufficient" in good
    assert "Serialization assertion plan.header.size == blobSize failed" in short
    assert "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed" in junk


@needs_no_driver
def test_a_plans_header_is_told_from_junk(plan: Path) -> None:
    """More than this cannot be had of `get_engine_validity` without a GPU: a good plan is invalid, for no reason."""
    code = (
        "import pathlib, sys\n"
        "import tensorrt_rtx as trt\n"
        "from engines.plan.api import api\n"
        "own, plan = api('tensorrt_rtx'), pathlib.Path(sys.argv[1]).read_bytes()\n"
        "runtime = own.started(trt.Runtime)\n"
        "print(runtime.engine_header_size)\n"
        "for content in (plan, plan[:64], plan[:64] + bytes(1000), b'junk' * 16, plan[:20]):\n"
        "    own.log.errors.clear()\n"
        "    validity, diagnostics = runtime.get_engine_validity(content)\n"
        "    print(validity.name, diagnostics, 'CUDA GPU properties' in own.log.reason())\n"
        "print(int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE))\n"
    )
    assert printed(code, plan) == ["64", *["INVALID 0 True"] * 3, *["INVALID 32 False"] * 2, "32"]


def test_our_classes_are_the_librarys() -> None:
    """pybind11 refuses an object whose base was not initialised; the log is called from C++."""
    code = (
        "import sys\n"
        "import tensorrt_rtx as trt\n"
        "from engines.plan.api import api\n"
        "own, seen = api('tensorrt_rtx'), []\n"
        "times, progress = own.layer_times(), own.progress(lambda *told: seen.append(told))\n"
        "builder = own.started(trt.Builder)  # a network must not outlive it\n"
        "network = builder.create_network(0)\n"
        "with own.log.kept() as kept:\n"
        "    trt.OnnxParser(network, own.log).parse(b'no model')\n"
        "print(any('model' in text.lower() for text in kept), bool(own.log.errors))\n"
        "progress.phase_start('outer', None, 4); progress.phase_start('inner', 'outer', 2)\n"
        "print(progress.step_complete('inner', 0), progress.step_complete('outer', 1), seen[-1])\n"
        "times.report_layer_time('conv', 0.5); times.report_layer_time('conv', 0.25)\n"
        "print(times.milliseconds)\n"
        "print([type(made).__bases__[1].__name__ for made in (own.log, times, progress)])\n"
        "print(own is api('tensorrt_rtx'), own.title)\n"
    )
    assert printed(code) == [
        "True True",
        "True True ('outer', 2, 4)",
        "{'conv': 0.75}",
        "['ILogger', 'IProfiler', 'IProgressMonitor']",
        "True TensorRT for RTX",
    ]


def test_the_builder_needs_no_torch_and_no_tensorrt() -> None:
    code = (
        "import sys, engines.tensorrt_rtx.rtx_build\n"
        "print([name for name in ('torch', 'triton', 'onnxscript', 'tensorrt', 'pycuda') if name in sys.modules])\n"
    )
    assert printed(code) == ["[]"]


def test_the_log_tells_what_is_read_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from engines.tensorrt_rtx.rtx_build import build_plan

    with caplog.at_level("DEBUG", logger="engines.plan.log"):
        _, details = build_plan(correlation(tmp_path / "one.onnx", 32, 32), settings())
    told = messages(caplog)
    assert sum(text.startswith("Layers:") for text in told) == 1
    (line,) = [text for text in told if "Total Activation Memory" in text]
    assert f"Total Activation Memory: {details['activation_bytes']} bytes" in line
    assert "Found registered local function: Correlate. Importing as a local function." in "\n".join(told)
