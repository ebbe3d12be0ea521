from __future__ import annotations

import dataclasses
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_graphs import expected_image
from tritonclient.utils import InferenceServerException

from outfitgan.config import ModelConfig, override
from outfitgan.config import load_preset as preset
from outfitgan.errors import EngineError, GraphError, InputError, ServerError
from outfitgan.generated_outfit import GeneratedOutfit
from outfitgan.images import encode_png
from outfitgan.items import ItemKind
from serving.client.outfit_client import OutfitClient
from serving.client.protocols import Http
from serving.models.steps import MASK_NOT_SENT, SOURCE_NOT_SENT
from serving.repository.assemble import assemble
from serving.server.triton_server import TritonServer, _answers, failure_in
from serving.server.wheel import ServerWheel, check_stub, find_wheel

pytestmark = pytest.mark.server

Builder = Callable[[ModelConfig, str], dict[str, Path]]
Counted = Callable[[OutfitClient, Callable[[], object]], dict[str, int]]

TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


def _png(width: int, height: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height), 200).save(stream, "PNG")
    return stream.getvalue()


def _file(data: bytes) -> np.ndarray:
    return np.array([[data]], dtype=np.object_)


def test_the_server_describes_itself(client: OutfitClient, source: np.ndarray) -> None:
    assert client.targets() == TARGETS
    assert client.image_size() == len(source)


def test_a_whole_outfit(client: OutfitClient, source: np.ndarray, mask: np.ndarray) -> None:
    outfit = client.generate(source, dict.fromkeys(TARGETS, mask), TARGETS)
    for kind in TARGETS:
        np.testing.assert_array_equal(outfit.images[kind], expected_image(kind, source, mask))
    expected = np.mean([source, *outfit.images.values()]) / 255
    assert outfit.compatibility == pytest.approx(expected, abs=1e-4)


def test_one_item_runs_one_generator(client: OutfitClient, source: np.ndarray, mask: np.ndarray, ran: Counted) -> None:
    outfits: list[GeneratedOutfit] = []
    counts = ran(client, lambda: outfits.append(client.generate(source, {ItemKind.SHOES: mask}, [ItemKind.SHOES])))
    assert counts == {"outfit": 1, "prepare": 1, "generator_shoes": 1, "finish": 1}
    assert list(outfits[0].images) == [ItemKind.SHOES]
    assert outfits[0].compatibility is None


def test_files_give_what_tensors_give(client: OutfitClient, source: np.ndarray, mask: np.ndarray) -> None:
    files = dict.fromkeys(TARGETS, encode_png(mask))
    encoded = client.generate_encoded(encode_png(source), files, TARGETS)
    plain = client.generate(source, dict.fromkeys(TARGETS, mask), TARGETS)
    for kind in TARGETS:
        np.testing.assert_array_equal(encoded.images[kind], plain.images[kind])
    assert encoded.compatibility == plain.compatibility


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_batch(client: OutfitClient, mask: np.ndarray, batch: int) -> None:
    sources = np.random.default_rng(batch).integers(0, 256, (batch, *mask.shape[:2], 3), dtype=np.uint8)
    masks = np.stack([mask] * batch)
    outfits = client.generate_batch(sources, dict.fromkeys(TARGETS, masks), TARGETS)
    for kind in TARGETS:
        np.testing.assert_array_equal(outfits.images[kind], expected_image(kind, sources, masks))
    assert outfits.compatibility is not None
    assert outfits.compatibility.shape == (batch,)


def test_alignment_alone(client: OutfitClient, model: ModelConfig, source: np.ndarray, mask: np.ndarray) -> None:
    grid = model.alignment_grid
    alignment = client.align(ItemKind.BAG, source, mask)
    assert alignment["MATCH"].dtype == np.int32
    assert alignment["MATCH"][-1, -1].tolist() == [grid - 1, grid - 1]
    assert alignment["WEIGHT"].shape == (grid, grid)


def test_concurrent_clients_get_their_own_answers(server: TritonServer, mask: np.ndarray) -> None:
    def ask(seed: int) -> bool:
        source = np.random.default_rng(seed).integers(0, 256, (*mask.shape[:2], 3), dtype=np.uint8)
        with OutfitClient(server.grpc_url) as client:
            if seed % 4 == 0:  # a bad neighbour in the same dynamic batch
                with pytest.raises(InputError, match="was not sent"):
                    client.generate(source, {}, [ItemKind.BAG])
                return True
            image = client.generate(source, {ItemKind.BAG: mask}, [ItemKind.BAG]).images[ItemKind.BAG]
        return bool((image == expected_image(ItemKind.BAG, source, mask)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))


BAD_TENSORS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]], str]] = {
    "mask not sent": (lambda s, m: {"SOURCE": s, "MASK_LOWER": m}, MASK_NOT_SENT),
    "no mask sent": (lambda s, m: {"SOURCE": s}, MASK_NOT_SENT),
    "source not sent": (lambda s, m: {"MASK_BAG": m}, SOURCE_NOT_SENT),
    "empty mask": (lambda s, m: {"SOURCE": s, "MASK_BAG": m * 0}, "The mask MASK_BAG is empty"),
    "one empty mask of two": (
        lambda s, m: {"SOURCE": np.concatenate([s, s]), "MASK_BAG": np.concatenate([m, m * 0])},
        "The mask MASK_BAG[1] is empty",
    ),
    "wrong shape": (lambda s, m: {"SOURCE": s[:, :20], "MASK_BAG": m}, "unexpected shape for input 'SOURCE'"),
    "wrong dtype": (lambda s, m: {"SOURCE": s.astype(np.float32), "MASK_BAG": m}, "data-type is 'FP32'"),
    "batch of 9": (lambda s, m: {"SOURCE": np.repeat(s, 9, 0), "MASK_BAG": np.repeat(m, 9, 0)}, "must be <= 8"),
    "batches differ": (lambda s, m: {"SOURCE": np.repeat(s, 3, 0), "MASK_BAG": np.repeat(m, 2, 0)}, "batch size"),
    "nothing": (lambda s, m: {}, ""),
    "unknown input": (lambda s, m: {"SOURCE": s, "MASK_HAT": m}, "MASK_HAT"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors_are_refused(client: OutfitClient, source: np.ndarray, mask: np.ndarray, case: str) -> None:
    make, sentence = BAD_TENSORS[case]
    _assert_refused(client, "outfit", make(source[None], mask[None]), ["BAG"], sentence)


MASK_FILE = _png(64, 64, "L")
BAD_FILES = {
    "text as jpg": (b"this is not a picture", MASK_FILE, "The image SOURCE is not a JPEG"),
    "corrupt": (_png(64, 64)[:80], MASK_FILE, "The image SOURCE"),
    "no bytes": (b"", MASK_FILE, "The image SOURCE is empty"),
    "one pixel": (_png(1, 1), MASK_FILE, "1x1"),
    "12000x12000": (_png(12000, 12000, "L"), MASK_FILE, "12000x12000"),
    "empty mask": (_png(64, 64), encode_png(np.zeros((64, 64, 1), np.uint8)), "The mask MASK_BAG is empty"),
    "oblong mask": (_png(64, 64), _png(64, 32, "L"), "MASK_BAG is 64x32"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused(client: OutfitClient, case: str) -> None:
    source, mask, sentence = BAD_FILES[case]
    _assert_refused(client, "outfit_encoded", {"SOURCE": _file(source), "MASK_BAG": _file(mask)}, ["BAG"], sentence)


@pytest.mark.parametrize("outputs", [["SHOES"], ["COMPATIBILITY"], ["BAG", "COMPATIBILITY"]])
def test_files_without_their_masks_are_refused(client: OutfitClient, outputs: list[str]) -> None:
    inputs = {"SOURCE": _file(_png(64, 64)), "MASK_BAG": _file(MASK_FILE)}
    _assert_refused(client, "outfit_encoded", inputs, outputs, MASK_NOT_SENT)


def _assert_refused(
    client: OutfitClient, model: str, inputs: dict[str, np.ndarray], outputs: list[str], sentence: str
) -> None:
    """Ask past the client's own checks, as any program may."""
    with pytest.raises(InferenceServerException) as refusal:
        client._server.infer(model, inputs, outputs)
    assert refusal.value.status() == ("400" if isinstance(client._server, Http) else "StatusCode.INVALID_ARGUMENT")
    assert sentence in refusal.value.message()
    assert "Traceback" not in refusal.value.message()


def test_the_client_says_what_the_server_said(client: OutfitClient, source: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(InputError) as refusal:
        client.generate(source, {ItemKind.BAG: mask}, [ItemKind.SHOES])
    assert str(refusal.value) == MASK_NOT_SENT
    with pytest.raises(InputError, match=r"makes bag, lower, shoes, not upper\.$"):
        client.generate(source, {}, [ItemKind.UPPER])
    with pytest.raises(InputError, match="complex64"):
        client.generate(source.astype(np.complex64), {}, [ItemKind.BAG])
    with pytest.raises(InputError, match=r"got \[1,64,64\]\.$"):
        client.generate(source, {ItemKind.BAG: mask[..., 0]}, [ItemKind.BAG])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_no_server_is_one_sentence(protocol: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{taken.getsockname()[1]}"
        with OutfitClient(url, protocol, timeout=5) as client:
            assert not client.is_ready()
            with pytest.raises(ServerError, match=f"No Triton server answers at {url}"):
                client.targets()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("address", ["foo:bar", "https://x:1", "127.0.0.1", "127.0.0.1:65536", "", "a b:1"])
def test_an_address_that_is_none_is_refused(protocol: str, address: str) -> None:
    with pytest.raises(InputError, match=r"--server takes HOST:PORT, as in 127\.0\.0\.1:8001, not '.*'\.$"):
        OutfitClient(address, protocol)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_proxy_is_not_asked_for_the_loopback(
    protocol: str, server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # the default one read the environment when it was made
    assert _answers(f"http://{server.http_url}/v2/health/ready")
    with OutfitClient(server.grpc_url if protocol == "grpc" else server.http_url, protocol, timeout=10) as client:
        assert client.is_ready()


def test_something_else_than_http_is_not_ready() -> None:
    with socket.socket() as other, ThreadPoolExecutor() as pool:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ready\r\n")

        greeted = pool.submit(greet)
        assert not _answers(f"http://127.0.0.1:{other.getsockname()[1]}/")
        greeted.result()


def test_a_server_that_ends_by_itself_says_why(repository: Path, tmp_path: Path) -> None:
    only = tmp_path / "repository"
    shutil.copytree(repository / "score", only / "score")
    log = tmp_path / "server.log"
    with TritonServer(only, log=log) as server:
        server.check()
        os.kill(server.pid, signal.SIGKILL)
        with log.open("a") as stream:
            stream.write('E1123 14:54 server.cc:1] "out of memory"\n')
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(
            ServerError, match=r"itself \(status -9\): out of memory \(its log: .*\); start it again\.$"
        ):
            server.check()


def test_metrics_are_served(server: TritonServer) -> None:
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:  # noqa: S310
        assert b"nv_inference_request_success" in answer.read()


def test_a_port_in_use_is_named(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"The gRPC port {port} on 127.0.0.1 cannot be used"):
            TritonServer(repository, grpc_port=port).start()


def test_a_repository_that_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="There is no model repository"):
        TritonServer(tmp_path / "nothing").start()
    with pytest.raises(ServerError, match="holds no model"):
        TritonServer(tmp_path).start()


def test_a_worker_that_cannot_start_is_refused(tmp_path: Path) -> None:
    installed = find_wheel()
    stubs = tmp_path / "python_backend_stubs"
    (stubs / "3.8").mkdir(parents=True)
    moved = ServerWheel(tmp_path, tmp_path)  # without the libraries that the wheel bundles
    with pytest.raises(ServerError, match=r"no worker for Python 3\.\d+: use a Python of 3\.8\."):
        check_stub(moved)
    moved.stub.parent.mkdir()
    shutil.copy(installed.stub, moved.stub)
    with pytest.raises(ServerError, match=r"worker for Python 3\.\d+ needs libcudart"):
        check_stub(moved)


def test_an_altered_engine_is_refused_and_nothing_is_left(repository: Path, tmp_path: Path) -> None:
    altered = tmp_path / "repository"
    shutil.copytree(repository / "alignment_bag", altered / "alignment_bag")
    weights = altered / "alignment_bag" / "1" / "model.bin"
    weights.write_bytes(weights.read_bytes() + b"!")
    server = TritonServer(altered)
    with pytest.raises(ServerError, match=r"did not start: model alignment_bag: .*model\.bin was altered") as refusal:
        server.start()
    assert "\\n" not in str(refusal.value)
    assert not list(SHARED_MEMORY.glob(f"{server._shm_prefix}*"))


def test_onnxruntime_serves_a_run_without_sams_and_stop_leaves_nothing(
    model: ModelConfig, build: Builder, tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    baseline = dataclasses.replace(model, generator=dataclasses.replace(model.generator, architecture="pix2pix"))
    engines = build(baseline, "onnxruntime")
    without_masks = {name: folder for name, folder in engines.items() if not name.startswith("mask_generator")}
    repository = assemble(baseline, without_masks, tmp_path / "repository")
    assert not (repository / "outfit_from_source").exists()
    with TritonServer(repository) as server, OutfitClient(server.grpc_url) as client:
        outfit = client.generate(source, dict.fromkeys(TARGETS, mask), TARGETS)
        assert (client.aligned_kinds(), client.mask_kinds()) == ((), ())
        pid, folder = server.pid, server._folder
        assert len(_session(pid)) > 1
    for kind in TARGETS:
        np.testing.assert_array_equal(outfit.images[kind], expected_image(kind, source, mask))
    assert not list(SHARED_MEMORY.glob(f"{server._shm_prefix}*"))
    assert not _session(pid)
    assert folder is not None
    assert not folder.exists()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid


def test_the_server_dies_with_its_parent(repository: Path, tmp_path: Path) -> None:
    only = tmp_path / "repository"
    shutil.copytree(repository / "score", only / "score")
    program = (
        "import sys, time; from pathlib import Path; from serving.server.triton_server import TritonServer\n"
        "server = TritonServer(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(only)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a killed parent cannot remove its temporary folder
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _session(pid)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _session(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _session(pid)


def _session(leader: int) -> list[int]:
    """Return the live processes of a server's session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if os.getsid(int(entry.name)) == leader and state != "Z":
                    found.append(int(entry.name))
            except (OSError, ValueError):
                continue
    return found


def test_assemble_checks_its_engines(model: ModelConfig, engines: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    good = engines["openvino"]
    with pytest.raises(GraphError, match="collocation is missing"):
        assemble(model, {name: path for name, path in good.items() if name != "collocation"}, tmp_path / "a")
    with pytest.raises(EngineError, match="one runtime"):
        assemble(model, {**good, "collocation": engines["onnxruntime"]["collocation"]}, tmp_path / "a")
    with pytest.raises(GraphError, match="no graph called hat"):
        assemble(model, {**good, "hat": good["collocation"]}, tmp_path / "a")
    larger = override(preset("tiny"), {"model.image_size": 128}).model
    with pytest.raises(GraphError, match="image size 128"):
        assemble(larger, good, tmp_path / "a")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(ServerError, match="not a model repository"):
        assemble(model, good, tmp_path / "precious")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious"]


def test_the_reason_is_found_in_a_log() -> None:
    log = (
        'E1123 14:54 server.cc:241] "CudaDriverHelper has not been initialized."\n'
        "E1123 14:54 model_lifecycle.cc:642] \"failed to load 'score' version 1: Internal: "
        'EngineError: It was altered.\\n\\nAt:\\n  model.py(12)"\n'
    )
    assert failure_in(log) == "model score: It was altered."
    assert failure_in("") == "it said nothing"


def test_a_repository_of_another_version_says_how_to_mend_it() -> None:
    """Its Python steps import modules that have moved."""
    log = (
        "E1123 14:54 model_lifecycle.cc:642] \"failed to load 'decode' version 1: Internal: "
        "ModuleNotFoundError: No module named 'serving.in_server'\\n\\nAt:\\n  model.py(4)\"\n"
    )
    again = "its repository is of another version of this package; run `outfitgan assemble` again."
    assert failure_in(log) == f"model decode: {again}"
