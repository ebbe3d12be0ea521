"""Which engines are taken of a folder that came without its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.engine_folder import find_engines
from engines.manifest import EngineManifest, Profile, write_manifest
from outfitgan.contracts import GraphContract
from outfitgan.errors import EngineError

NOTHING = "0" * 64


def add(root: Path, graph: str, runtime: str, precision: str, key: str = "a") -> Path:
    """An engine's folder with its manifest; the files are for whoever opens it."""
    folder = root / f"{graph}.{runtime}.{precision}.{key}"
    folder.mkdir(parents=True)
    manifest = EngineManifest(
        GraphContract(graph, (), ()), NOTHING, runtime, precision, {"model": NOTHING}, {}, {}, Profile(1, 1, 8), {}, key
    )
    write_manifest(manifest, folder)
    return folder


def test_one_engine_a_graph_needs_no_choice(tmp_path: Path) -> None:
    folders = {name: add(tmp_path, name, "onnxruntime", "fp32") for name in ("generator_bag", "collocation")}
    assert find_engines(tmp_path) == find_engines(tmp_path, "onnxruntime") == folders
    assert find_engines(tmp_path, "onnxruntime", "fp32") == find_engines(tmp_path, None, "fp32") == folders


def test_what_is_no_engine_is_left_alone(tmp_path: Path) -> None:
    folder = add(tmp_path, "collocation", "onnxruntime", "fp32")
    add(tmp_path, ".collocation", "onnxruntime", "fp32", "b.partial")  # another process is building it
    (tmp_path / "tensorrt.toml").touch()
    (tmp_path / "notes").mkdir()
    assert find_engines(tmp_path) == {"collocation": folder}


def test_several_runtimes_and_precisions_want_a_choice(tmp_path: Path) -> None:
    single = add(tmp_path, "generator_bag", "onnxruntime", "fp32")
    half = add(tmp_path, "generator_bag", "openvino", "bf16")
    full = add(tmp_path, "generator_bag", "openvino", "fp32")
    with pytest.raises(EngineError, match=r"several kinds \(onnxruntime fp32, openvino bf16, openvino fp32\): say whi"):
        find_engines(tmp_path)
    assert find_engines(tmp_path, "onnxruntime") == {"generator_bag": single}
    with pytest.raises(EngineError, match=r"holds \S+bf16\.a and \S+fp32\.a for one graph"):
        find_engines(tmp_path, "openvino")
    assert find_engines(tmp_path, "openvino", "fp32") == {"generator_bag": full}
    assert find_engines(tmp_path, "openvino", "bf16") == {"generator_bag": half}


def test_int8_takes_the_engines_that_are_not_rounded_too(tmp_path: Path) -> None:
    scorer = add(tmp_path, "collocation", "onnxruntime", "fp32")
    with pytest.raises(EngineError, match="holds no onnxruntime int8 engine: it has onnxruntime fp32; take one, or"):
        find_engines(tmp_path, None, "int8")
    add(tmp_path, "generator_bag", "onnxruntime", "fp32")
    rounded = add(tmp_path, "generator_bag", "onnxruntime", "int8")
    assert find_engines(tmp_path, None, "int8") == {"collocation": scorer, "generator_bag": rounded}


def test_engines_of_two_exports_are_not_mixed(tmp_path: Path) -> None:
    for key in "ab":
        add(tmp_path, "generator_bag", "onnxruntime", "fp32", key)
    with pytest.raises(EngineError, match="for one graph: say which with --precision, or keep one export's engines"):
        find_engines(tmp_path, "onnxruntime", "fp32")


def test_a_folder_without_engines_says_where_they_may_be(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"There is no folder .*none: name the engines folder of a run"):
        find_engines(tmp_path / "none")
    with pytest.raises(EngineError, match="holds no engine; build them with 'outfitgan build', or copy them there"):
        find_engines(tmp_path)
    add(tmp_path / "engines", "collocation", "onnxruntime", "fp32")
    with pytest.raises(EngineError, match=f"holds no engine; name {tmp_path}/engines"):
        find_engines(tmp_path)
    with pytest.raises(EngineError, match="holds no tensorrt engine: it has onnxruntime fp32"):
        find_engines(tmp_path / "engines", "tensorrt")


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    folder = add(tmp_path, "collocation", "onnxruntime", "fp32")
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(EngineError, match=r"manifest\.json is not a manifest; build the engine again"):
        find_engines(tmp_path)
