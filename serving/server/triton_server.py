"""Start, watch and stop a Triton Inference Server on the loopback of this machine."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from outfitgan.errors import ServerError
from serving.server.wheel import find_wheel, stage_backends

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the server keeps its tensors
_STOP_WITH_PARENT = Path(__file__).with_name("stop_with_parent.py")
_STOP_SECONDS = 20
_POLL_SECONDS = 0.05
_HARMLESS = re.compile(r"pinned|CudaDriver|NVML|DCGM|unable to create stream|CUDA memory", re.IGNORECASE)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not see this machine's loopback
_FAILURES = (
    re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)"),
    re.compile(r"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)"),
    re.compile(r"failed to load model '(?P<model>[^']+)': (?P<reason>.*)"),
)


class TritonServer:
    """A running server; use it as a context manager, or call `start` and `stop`.

    It lives no longer than the thread that started it: the kernel stops it if this process dies.
    """

    def __init__(
        self,
        repository: Path,  # what `assemble` wrote
        http_port: int = 0,  # 0: any free port, for each of the three
        grpc_port: int = 0,  # likewise
        metrics_port: int = 0,  # likewise
        host: str = "127.0.0.1",  # address to listen on
        log: Path | None = None,  # the server's output; None: a temporary file that `stop` removes
        ready_timeout: float = 120,  # seconds until it must be ready
        config_name: str = "cpu",  # which <model>/configs/<name>.pbtxt to prefer to config.pbtxt
    ) -> None:
        self.repository, self.host = repository.absolute(), host
        self._wanted = {"HTTP": http_port, "gRPC": grpc_port, "metrics": metrics_port}
        self._ports = self._wanted
        self._ready_timeout = ready_timeout
        self._config_name = config_name
        self._shm_prefix = f"outfitgan_{uuid.uuid4().hex[:12]}_"
        self._log = log
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        """host:port for a client over HTTP."""
        return f"{self.host}:{self._ports['HTTP']}"

    @property
    def grpc_url(self) -> str:
        """host:port for a client over gRPC."""
        return f"{self.host}:{self._ports['gRPC']}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads the metrics."""
        return f"http://{self.host}:{self._ports['metrics']}/metrics"

    @property
    def pid(self) -> int:
        """The server's process; raises ServerError if it is not running."""
        if self._process is None:
            raise ServerError("The server is not running: call start().")
        return self._process.pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when it is ready; raise ServerError in one sentence if it cannot be."""
        if self._process is not None:
            raise ServerError(f"The server is running already (process {self.pid}): call stop() first.")
        _check_repository(self.repository)
        wheel = find_wheel()
        self._ports = _reserve(self.host, self._wanted)
        self._folder = Path(tempfile.mkdtemp(prefix="outfitgan-server-"))
        try:
            backends = stage_backends(wheel, self._folder / "backends")
            log = self._log_path()
            log.parent.mkdir(parents=True, exist_ok=True)
            program = [str(wheel.program), *self._arguments(backends, wheel.root / "caches")]
            command = [sys.executable, "-I", str(_STOP_WITH_PARENT), str(os.getpid()), *program]
            with log.open("wb") as stream:
                # A session of its own: Ctrl-C in a terminal must reach this process alone, which then stops the server.
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=wheel.environment(),
                    cwd=self._folder,  # the workers import from it first: not from wherever this process happens to be
                    start_new_session=True,
                )
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove what it left behind; does nothing if it is not running."""
        if self._process is not None:
            _end(self._process)
            self._process = None
            for region in _SHARED_MEMORY.glob(f"{self._shm_prefix}*"):
                region.unlink(missing_ok=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def check(self) -> None:
        """Raise ServerError if the server has ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            reason = self._failure().rstrip(".")
            raise ServerError(f"The server ended by itself (status {status}): {reason}{self._where()}; start it again.")

    def _log_path(self) -> Path:
        if self._log is not None:
            return self._log
        assert self._folder is not None  # noqa: S101 - start() has just made it
        return self._folder / "server.log"

    def _arguments(self, backends: Path, caches: Path) -> list[str]:
        arguments = [
            f"--model-repository={self.repository}",
            f"--model-config-name={self._config_name}",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            f"--exit-timeout-secs={_STOP_SECONDS // 2}",
            f"--backend-directory={backends}",
            f"--cache-directory={caches}",
            f"--backend-config=python,shm-region-prefix-name={self._shm_prefix}",
            # The CPU configs let one engine run at a time: each takes every core, and two at once only get in the way.
            "--rate-limit=execution_count",
        ]
        for name, port in self._ports.items():
            option = name.lower()
            arguments += [f"--{option}-address={self.host}", f"--{option}-port={port}"]
        return arguments

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._ready_timeout
        while not _answers(f"http://{self.http_url}/v2/health/ready"):
            if process.poll() is not None:
                raise ServerError(f"The server did not start: {self._failure()}{self._where()}")
            if time.monotonic() > deadline:
                raise ServerError(
                    f"The server was not ready after {self._ready_timeout:g} s: "
                    f"raise ready_timeout or free the machine's cores{self._where()}."
                )
            time.sleep(_POLL_SECONDS)

    def _failure(self) -> str:
        try:
            log = self._log_path().read_text(encoding="utf-8", errors="replace")
        except OSError:  # removed meanwhile, by whoever tidies logs
            log = ""
        return failure_in(log)

    def _where(self) -> str:
        return "" if self._log is None else f" (its log: {self._log})"


def failure_in(log: str) -> str:
    """Return the line of a server's log with the reason why it stopped."""
    lines = log.splitlines()
    for pattern in _FAILURES:
        for line in lines:
            if found := pattern.search(line):
                reason = re.sub(
                    r"^(\w+: )?((Engine|Graph|Config)Error: )?", "", found["reason"].rstrip('"').split(r"\n\nAt:")[0]
                )
                if "No module named 'serving" in reason:
                    reason = "its repository is of another version of this package; run `outfitgan assemble` again."
                return f"model {found['model']}: {reason}"
    for line in lines:
        if line.startswith(("E", "error:")) and not _HARMLESS.search(line):
            return line.split("] ", 1)[-1].strip('"')
    return lines[-1] if lines else "it said nothing"


def _check_repository(repository: Path) -> None:
    if not repository.is_dir():
        raise ServerError(f"There is no model repository {repository}: make one with `outfitgan assemble`.")
    if not any(repository.glob("*/config.pbtxt")):
        raise ServerError(f"{repository} holds no model (*/config.pbtxt): make a repository with `outfitgan assemble`.")


def _reserve(host: str, ports: dict[str, int]) -> dict[str, int]:
    """Replace every 0 by a free port; raise ServerError if a wanted one is taken."""
    chosen = {}
    with ExitStack() as stack:
        for name, port in sorted(ports.items(), key=lambda entry: entry[1] == 0):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError as error:
                raise ServerError(
                    f"The {name} port {port} on {host} cannot be used ({error.strerror}): "
                    "stop what listens there or choose another port (0 takes a free one)."
                ) from error
            chosen[name] = int(listener.getsockname()[1])
    return {name: chosen[name] for name in ports}


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=2) as answer:
            return int(answer.status) == 200
    except (OSError, http.client.HTTPException):  # the latter: what answers there speaks something else
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt the server; kill it and its workers if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers outlive a server that crashed
    process.wait()
