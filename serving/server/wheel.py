"""The tritonserver of the nvidia-pytriton wheel: where it is, whether it can run here, the folder it runs from."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outfitgan.errors import ServerError

_INSTALL = "run pip install 'outfitgan[serve]'"
_BACKENDS = Path(__file__).parents[1] / "models" / "backends"
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class ServerWheel:
    """The installed wheel."""

    root: Path  # the folder tritonserver/ of the wheel
    libraries: Path  # the shared libraries it bundles

    @property
    def program(self) -> Path:
        """The server."""
        return self.root / "bin" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The Python backend's worker for this interpreter's version."""
        return self.root / "python_backend_stubs" / "{}.{}".format(*sys.version_info) / _STUB

    def environment(self) -> dict[str, str]:
        """Return this process's environment, changed so that server and workers run on this very interpreter."""
        libraries = [str(sysconfig.get_config_var("LIBDIR")), str(self.libraries)]
        if inherited := os.environ.get("LD_LIBRARY_PATH"):
            libraries.append(inherited)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def find_wheel() -> ServerWheel:
    """Return the installed server; raise ServerError if it is missing or cannot run with this interpreter."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise ServerError(f"The Triton Inference Server (nvidia-pytriton) is not installed: {_INSTALL}.")
    package = Path(spec.origin).parent
    wheel = ServerWheel(package / "tritonserver", package.with_name("nvidia_pytriton.libs"))
    if not wheel.program.is_file():
        raise ServerError(f"The nvidia-pytriton wheel has no {wheel.program}: {_INSTALL} again.")
    if int(np.__version__.split(".")[0]) >= 2:
        raise ServerError(
            f"The server's Python backend returns empty tensors with numpy {np.__version__}: run pip install 'numpy<2'."
        )
    check_stub(wheel)
    return wheel


def stage_backends(wheel: ServerWheel, folder: Path) -> Path:
    """Lay out `folder` as Triton's backend directory: the wheel's Python backend, and this project's beside it."""
    python = folder / "python"
    python.mkdir(parents=True)
    for source in (wheel.root / "backends" / "python").iterdir():
        if source.is_file():
            shutil.copy(source, python)  # a link out of the folder is refused: "escapes backend directory"
    shutil.copy(wheel.stub, python / _STUB)
    (python / _STUB).chmod(0o755)
    for backend in sorted(_BACKENDS.iterdir()):
        if (backend / "model.py").is_file():
            (folder / backend.name).mkdir()
            shutil.copy(backend / "model.py", folder / backend.name)
    return folder


def check_stub(wheel: ServerWheel) -> None:
    """Refuse a worker that cannot start: the server would wait for it for ever."""
    version = "{}.{}".format(*sys.version_info)
    if not wheel.stub.is_file():
        known = ", ".join(sorted(path.name for path in wheel.stub.parents[1].iterdir()))
        raise ServerError(f"The server has no worker for Python {version}: use a Python of {known}.")
    ldd = shutil.which("ldd")
    if ldd is None:
        return
    command = [ldd, str(wheel.stub)]
    listing = subprocess.run(command, env=wheel.environment(), capture_output=True, text=True, check=False).stdout
    missing = [line.split("=>")[0].strip() for line in listing.splitlines() if "not found" in line]
    if missing:
        raise ServerError(
            f"The server's worker for Python {version} needs {', '.join(missing)}: "
            "install what is missing, or use a Python that was built with --enable-shared."
        )
