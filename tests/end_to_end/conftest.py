"""One run made through the command line alone, and one server over it, for the whole session."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.main import main

Finished = subprocess.CompletedProcess[str]
Verb = Callable[..., Finished]
Serving = Callable[..., AbstractContextManager[dict[str, str]]]

COMMAND = (sys.executable, "-c", "from cli.main import main; main()")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
READY = re.compile(r"Ready: gRPC (?P<grpc>\S+), HTTP (?P<http>\S+), metrics (?P<metrics>\S+/metrics)\. ")


@pytest.fixture(scope="session")
def outfitgan() -> Verb:
    """`outfitgan <verb> ...` in a process of its own."""

    def call(*arguments: object) -> Finished:
        command = [*COMMAND, *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=400)

    return call


@pytest.fixture(scope="session")
def succeed(outfitgan: Verb) -> Verb:
    """`outfitgan <verb> ...` in a process of its own, which must end with 0."""

    def call(*arguments: object) -> Finished:
        done = outfitgan(*arguments)
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stderr}"
        return done

    return call


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Verb:
    """`outfitgan <verb> ...` in this process, with what its libraries print from C++ captured too."""

    def call(*arguments: object) -> Finished:
        command = ["outfitgan", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capfd.readouterr()
        return Finished(command, int(code), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def run(succeed: Verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, exported, built for both CPU runtimes and assembled."""
    folder = tmp_path_factory.mktemp("chain") / "run"
    succeed("train", "--run", folder, "--preset", "tiny")
    printed = succeed("export", "--run", folder, "--precision", "fp32").stdout
    assert printed == f"Exported 7 graphs to {folder}/graphs, each within its tolerance of torch.\n"
    for runtime in ("openvino", "onnxruntime"):
        printed = succeed("build", "--run", folder, "--runtime", runtime).stdout
        assert printed == f"Built 7 {runtime} fp32 engines in {folder}/engines.\n"
    succeed("assemble", "--run", folder)
    return folder


@pytest.fixture(scope="session")
def measured_run(succeed: Verb, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in another place after `outfitgan parity`, which exports FP16 and INT8 and builds INT8 engines."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("measured") / "run"))
    before = {path.name: path.read_bytes() for path in folder.glob("graphs/*.fp32.*")}
    printed = succeed("parity", "--run", folder).stdout
    assert re.findall(r"exporting the (\w+) graphs", printed) == ["fp16", "int8"]
    assert f"Wrote {folder}/parity.json." in printed
    assert {path.name: path.read_bytes() for path in folder.glob("graphs/*.fp32.*")} == before
    return folder


@pytest.fixture
def run_copy(run: Path, tmp_path: Path) -> Path:
    """The run in another place, for a test to change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="session")
def example(succeed: Verb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of <kind>.png and <kind>_mask.png of one outfit, at the run's image size."""
    folder = tmp_path_factory.mktemp("data") / "examples"
    succeed("data", "write", "--output", folder, "--count", 1, "--size", 64)
    return folder / "000"


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """`with serving(repository, signal) as urls`: `outfitgan serve` meanwhile; the signal must end it cleanly."""

    @contextmanager
    def serve(repository: Path, ending: signal.Signals) -> Iterator[dict[str, str]]:
        errors = tmp_path_factory.mktemp("serve") / "stderr"
        ports = [part for name in ("http", "grpc", "metrics") for part in (f"--{name}-port", "0")]
        command = [*COMMAND, "serve", "--repository", str(repository), *ports]
        with (
            errors.open("w") as stream,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True) as process,
        ):
            try:
                assert process.stdout is not None
                ready = READY.match(process.stdout.readline())
                assert ready is not None, errors.read_text()
                family = psutil.Process(process.pid).children(recursive=True)
                prefix = _shared_memory_prefix(family)
                assert list(SHARED_MEMORY.glob(f"{prefix}*"))
                yield ready.groupdict()
                process.send_signal(ending)
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()  # of one that has ended it is nothing; the server dies with it
        assert (process.returncode, said, errors.read_text()) == (0, "Stopped.\n", "")
        assert not list(SHARED_MEMORY.glob(f"{prefix}*"))
        assert not [member for member in family if _lives(member)]

    return serve


def _shared_memory_prefix(family: list[psutil.Process]) -> str:
    words = " ".join(word for member in family for word in member.cmdline())
    found = re.search(r"shm-region-prefix-name=(\w+)", words)
    assert found is not None, words
    return found[1]


def _lives(process: psutil.Process) -> bool:
    """Return whether a process runs; one that has ended may wait for its new parent to notice."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="session")
def served(run: Path, serving: Serving) -> Iterator[dict[str, str]]:
    """Protocol -> host:port of the session's server over the run; Ctrl-C ends it after the last test."""
    with serving(run / "repository", signal.SIGINT) as urls:
        yield urls
