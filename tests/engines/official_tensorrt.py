"""TensorRT's official bindings over libraries that do nothing: real classes, signatures and checks, no builder.

PyPI has the bindings and the lean runtime, not the builder, its plugins and its parser. Of those the bindings need a
few symbols to be imported at all; a C compiler makes them here. The lean runtime brings the real plugin registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]

_LIBRARIES = {
    "nvonnxparser": """
        void *createNvOnnxParser_INTERNAL(void *network, void *logger, int version) { return 0; }
        void *createNvOnnxParserRefitter_INTERNAL(void *refitter, void *logger, int version) { return 0; }
        int getNvOnnxParserVersion(void) { return 0; }
    """,
    "nvinfer_plugin": "int initLibNvInferPlugins(void *logger, const char *space) { return 1; }",
    "nvinfer": """
        void *createInferBuilder_INTERNAL(void *logger, int version) { return 0; }
        void *createInferRefitter_INTERNAL(void *engine, void *logger, int version) { return 0; }
        void *getBuilderPluginRegistry(int capability) { return 0; }
    """,
}


def missing() -> str:
    """Return why the bindings cannot be imported here, empty if they can."""
    if find_spec("tensorrt_bindings") is None or find_spec("tensorrt_lean_libs") is None:
        return "TensorRT's official bindings are not installed; pip install 'outfitgan[contract]'"
    return "" if shutil.which("gcc") else "there is no C compiler (gcc) to make TensorRT's missing libraries with"


def installed_version() -> str:
    """Return the version of the bindings, as in 11.4.0.106."""
    try:
        return version("tensorrt-cu13-bindings")
    except PackageNotFoundError:
        return ""


def make_environment(folder: Path) -> dict[str, str]:
    """Fill `folder` and return the environment in which `import tensorrt` finds the official bindings."""
    lean, bindings = find_spec("tensorrt_lean_libs"), find_spec("tensorrt_bindings")
    assert lean is not None
    assert lean.origin is not None
    assert bindings is not None
    assert bindings.origin is not None
    major = installed_version().partition(".")[0]
    real = f"libnvinfer_lean.so.{major}"
    (folder / real).symlink_to(Path(lean.origin).parent / real)
    (folder / "tensorrt").symlink_to(Path(bindings.origin).parent)
    for name, source in _LIBRARIES.items():
        library = f"lib{name}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / library, f"-Wl,-soname,{library}"]
        if name == "nvinfer":
            command += ["-Wl,--no-as-needed", f"-L{folder}", f"-l:{real}", "-Wl,-rpath,$ORIGIN"]
        subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the bindings."""
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
