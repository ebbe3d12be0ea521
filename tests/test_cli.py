"""The front door: every verb explains itself, and an expected error is one line and exit code 2."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from export.exported import ExportedGraph, graph_path, save_index, save_sidecar
from export.graphs import mask_contracts, run_contracts
from outfitgan.cli import app, main
from outfitgan.config import load_config, load_preset, override, save_config
from outfitgan.files import sha256_of
from outfitgan.items import COLLOCATION_ORDER, ItemKind, targets_of

SIZE = 32
OPTIONS = {
    "data write": "--output --data --root --split --count --size --seed",
    "data inspect": "--output --data --root --split --count --size --seed",
    "train": "--run --preset --config --resume --data --root --source --image-size --steps --collocation-steps "
    "--batch --seed --set",
    "train-masks": "--run",
    "export": "--run --precision --calibrate",
    "build": "--run --target --precision --set",
    "parity": "--run",
    "assemble": "--run --target --precision --threads --output --also --instances --cuda-graph --server-tensorrt",
    "serve": "--repository --http-port --grpc-port --metrics-port --host --log",
    "generate": "--source --mask --output --run --server --protocol --wait --only --target --precision --threads",
    "demo": "--output --preset",
    "kernel": "--output --run --preset --architecture --dtype --layout",
    "evaluate": "--run --output --count --data --root",
    "experiment": "--output --preset --config --data --root --seeds --count --set --run --on",
}
QUICK = ["--preset", "tiny", "--image-size", "32", "--collocation-steps", "1", "--steps", "1"]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Cli = Callable[..., Answer]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`outfitgan` in this process."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["outfitgan", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Answer(int(code), captured.out, captured.err)

    return call


def outfitgan(*arguments: object) -> Answer:
    """`outfitgan` in a process of its own."""
    command = [sys.executable, "-c", "from outfitgan.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)
    return Answer(done.returncode, done.stdout, done.stderr)


def refused(answer: Answer, message: str) -> None:
    """The answer is one sentence on stderr that `message` describes."""
    assert answer.code == 2, answer
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert re.match("error: ", lines[0])
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in answer.out + answer.err


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source and three masks that `data write` wrote."""
    output = tmp_path_factory.mktemp("data") / "examples"
    arguments = ["data", "write", "--output", str(output), "--count", "1", "--size", str(SIZE)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return output / "000"


@pytest.fixture(scope="session")
def small_graphs() -> Any:
    """The serving tests' graphs: real ones that honour the contracts, with an answer that is known to the pixel."""
    path = Path(__file__).parent / "serving" / "small_graphs.py"
    spec = importlib.util.spec_from_file_location("small_graphs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, small_graphs: Any) -> Path:
    """A run with graphs, and with the engines that the `build` verb made of them."""
    run = tmp_path_factory.mktemp("runs") / "built"
    config = override(load_preset("tiny"), {"model.image_size": SIZE})
    save_config(config, run / "config.toml")
    (run / "graphs").mkdir()
    contracts = run_contracts(config.model) | mask_contracts(config.model)
    graphs: list[ExportedGraph] = []
    for name, graph in small_graphs.small_graphs(config.model).items():
        path = graph_path(run / "graphs", name, "fp32")
        onnx.save(graph, path)
        digest = sha256_of(path)
        graphs.append(ExportedGraph(path, contracts[name], "fp32", digest, digest, {}, {"onnx": onnx.__version__}))
        save_sidecar(graphs[-1])
    save_index(run / "graphs", "fp32", graphs, origin="")
    result = CliRunner().invoke(app, ["build", "--run", str(run), "--target", "onnxruntime"])
    assert result.exit_code == 0, result.output
    assert f"Built {len(contracts)} onnxruntime fp32 engines" in result.output
    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step each, trained by a process of its own."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    answer = outfitgan("train", "--run", run, *QUICK, "--source", "shoes", "--seed", 3, "--batch", 1)
    assert answer.code == 0, answer.err
    assert f"Trained: {run}/checkpoints" in answer.out
    return run


def masks_of(folder: Path, *kinds: str) -> list[str]:
    return [part for kind in kinds for part in ("--mask", f"{kind}={folder / f'{kind}_mask.png'}")]


# Help


def test_the_app_names_its_verbs() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    verbs = {words.split()[0] for words in OPTIONS}
    assert all(re.search(rf"\b{verb}\b", result.output) for verb in verbs)
    apps = [app, *(group.typer_instance for group in app.registered_groups if not group.name and group.typer_instance)]
    commands = [command.callback for one in apps for command in one.registered_commands if command.callback]
    groups = {str(group.name) for group in app.registered_groups if group.name}
    assert {command.__name__.replace("_", "-") for command in commands} | groups == verbs


@pytest.mark.parametrize("verb", OPTIONS)
def test_a_verb_names_its_options(verb: str) -> None:
    result = CliRunner(env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).invoke(app, [*verb.split(), "--help"])
    assert result.exit_code == 0
    named = set(re.findall(r"(?<=[\s│])--[a-z][a-z-]*", result.output))
    assert named - {"--help"} >= set(OPTIONS[verb].split())


def test_help_is_quick_and_quiet_in_a_process_of_its_own() -> None:
    answer = outfitgan("--help")
    assert (answer.code, answer.err) == (0, "")
    assert "compatible outfit" in answer.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "write"],
        ["data", "inspect"],
        ["fly"],
        ["train", "--run"],
        ["data", "write", "--output", "x", "--count", "0"],
    ],
)
def test_a_wrong_command_line_is_explained(cli: Cli, arguments: list[str]) -> None:
    answer = cli(*arguments)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert answer.err.strip()


# data


def test_data_writes_pictures_masks_and_a_contact_sheet(cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "new" / "outfits"
    answer = cli("data", "write", "--output", output, "--count", 2, "--size", 48, "--split", "train", "--seed", 5)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"Wrote 2 outfits to {output}; look at {output}/outfits.png.\n"
    assert {path.name for path in output.iterdir()} == {"000", "001", "outfits.png"}
    sheet = np.asarray(Image.open(output / "outfits.png"))
    assert sheet.shape == (2 * 48, 4 * 48, 3)
    for row, folder in enumerate((output / "000", output / "001")):
        assert {path.name for path in folder.iterdir()} == {
            f"{kind}{end}.png" for kind in COLLOCATION_ORDER for end in ("", "_mask")
        }
        for column, kind in enumerate(COLLOCATION_ORDER):
            image = np.asarray(Image.open(folder / f"{kind}.png"))
            mask = np.asarray(Image.open(folder / f"{kind}_mask.png"))
            assert (image.shape, mask.shape) == ((48, 48, 3), (48, 48))
            assert set(np.unique(mask)) == {0, 255}
            assert np.array_equal(sheet[row * 48 :, column * 48 :][:48, :48], image)
    assert [path.name for path in output.parent.iterdir()] == ["outfits"]


def test_data_is_inspected(cli: Cli, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    answer = cli("data", "inspect", "--output", sheet, "--count", 3, "--size", 32, "--split", "test", "--seed", 2)
    assert (answer.code, answer.err) == (0, "")
    assert "synthetic at 32x32: 512 outfits for train, 512 outfits for test" in answer.out
    assert re.search(r"test +│ shoes +│ +3 │ +3 │", answer.out)
    assert answer.out.endswith(f"Look at {sheet}.\n")
    with Image.open(sheet) as image:
        assert image.format == "PNG"
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]
    refused(cli("data", "inspect", "--data", "polyvore", "--output", sheet), r"data\.root is empty: set it to")


def test_data_spares_what_is_there(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    refused(cli("data", "write", "--output", tmp_path / "mine"), "exists already; choose another --output")
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "ccp"], r"data\.root is empty: set it to"),
        (["--data", "ccp", "--root", "nowhere"], "nowhere has no .*get the Clothing Co-Parsing data set"),
        (["--data", "imagenet"], r"data\.name"),
        (["--split", "validation"], "no split 'validation'; choose from train, test"),
        (["--count", "100000000"], "holds 512 outfits, not 100000000; ask for fewer"),
    ],
)
def test_data_refuses_in_one_line(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    refused(cli("data", "write", "--output", tmp_path / "out", *arguments), message)
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(cli("data", "write", "--output", tmp_path / "file" / "out"), "Cannot use .*file.*check the path")
    refused(cli("train", "--run", tmp_path / "file" / "run", *QUICK), "Cannot write the run to .*choose another --run")
    assert (tmp_path / "file").read_text() == "mine"


# train


def test_train_records_every_choice(trained: Path) -> None:
    config = load_config(trained / "config.toml")
    assert config.model.source is ItemKind.SHOES
    assert config.model.image_size == 32
    training = config.training
    assert (training.steps, training.collocation_steps, training.batch, training.seed) == (1, 1, 1, 3)
    assert config.data == load_preset("tiny").data
    assert [path.name for path in (trained / "samples").iterdir()] == ["000001.png"]


def test_train_goes_on_with_resume(cli: Cli, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    save_config(override(load_config(run / "config.toml"), {"training.steps": 2}), run / "config.toml")
    answer = cli("train", "--run", run, "--resume")
    assert (answer.code, answer.err) == (0, "")
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [("collocation", 1), ("outfit", 1), ("outfit", 2)]


def test_train_spares_a_run_that_is_there(cli: Cli, trained: Path) -> None:
    before = (trained / "stats.jsonl").read_bytes()
    refused(cli("train", "--run", trained, *QUICK), "already holds a run; continue it with --resume")
    assert (trained / "stats.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "options", [["--preset", "tiny"], ["--steps", "3"], ["--seed", "0"], ["--config", "c.toml"], ["--source", "bag"]]
)
def test_resume_takes_no_other_choice(cli: Cli, trained: Path, options: list[str]) -> None:
    refused(cli("train", "--run", trained, "--resume", *options), "with its own config; leave the other options out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "huge"], "no preset 'huge'; choose from demo, .*small, .*tiny"),
        (["--source", "hat"], "'hat' is not an item kind; choose from upper, bag, lower, shoes"),
        (["--config", "nowhere.toml"], r"Cannot read the config nowhere\.toml"),
        (["--preset", "tiny", "--config", "c.toml"], "--preset or --config, not both"),
        (["--preset", "tiny", "--steps", "0"], r"training\.steps: "),
        (["--preset", "tiny", "--seed", "-1"], r"training\.seed: "),
        (["--preset", "tiny", "--image-size", "100"], "image_size 100 must be a multiple"),
        (["--data", "imagenet"], r"data\.name: "),
        (["--resume"], r"holds no run \(no config\.toml\); make one with"),
    ],
)
def test_train_refuses_in_one_line(cli: Cli, tmp_path: Path, options: list[str], message: str) -> None:
    refused(cli("train", "--run", tmp_path / "run", *options), message)
    assert not (tmp_path / "run").exists()


def test_train_can_be_started_again_once_the_data_is_there(cli: Cli, tmp_path: Path) -> None:
    answer = cli("train", "--run", tmp_path / "run", *QUICK, "--data", "ccp")
    refused(answer, r"data\.root is empty: set it to")
    answer = cli("train", "--run", tmp_path / "run", *QUICK, "--data", "ccp", "--root", tmp_path / "nowhere")
    refused(answer, "nowhere has no .*get the Clothing Co-Parsing data set")
    assert cli("train", "--run", tmp_path / "run", *QUICK).code == 0


def test_an_error_in_a_process_of_its_own_is_one_line(tmp_path: Path) -> None:
    refused(outfitgan("train", "--run", tmp_path / "run", "--preset", "huge"), "no preset 'huge'")


# export, build, assemble, serve


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--run", "nowhere"], "nowhere holds no run .*make one with 'outfitgan train"),
        (["build", "--run", "nowhere"], "nowhere holds no run"),
        (["assemble", "--run", "nowhere"], "nowhere holds no run"),
        (["serve", "--repository", "nowhere"], "no model repository .*nowhere: make one with"),
    ],
)
def test_a_missing_run_is_refused(cli: Cli, arguments: list[str], message: str) -> None:
    refused(cli(*arguments), message)


def test_export_needs_a_trained_run(cli: Cli, tmp_path: Path) -> None:
    save_config(load_preset("tiny"), tmp_path / "config.toml")
    refused(cli("export", "--run", tmp_path), "no outfit checkpoint yet; finish it with 'outfitgan train --resume'")


def test_build_finds_what_it_built(cli: Cli, built: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (built / "engines").rglob("*")}
    answer = cli("build", "--run", built, "--target", "onnxruntime")
    assert answer.code == 0
    assert {path: path.stat().st_mtime_ns for path in (built / "engines").rglob("*")} == before


def test_an_engine_that_was_not_built_is_asked_for(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    build = r"has no openvino fp32 engine yet; build it with 'outfitgan build --run .* --target openvino"
    refused(cli("assemble", "--run", built, "--output", tmp_path / "repository"), build)
    options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path / "out"]
    refused(cli("generate", "--run", built, *options), build)
    assert list(tmp_path.iterdir()) == []


# generate


def test_generate_writes_the_outfit(cli: Cli, built: Path, example: Path, tmp_path: Path, small_graphs: Any) -> None:
    kinds = targets_of(ItemKind.UPPER)
    source = np.asarray(Image.open(example / "upper.png"))
    for wanted in (kinds, kinds[2:]):
        only = [part for kind in wanted for part in ("--only", str(kind))] if wanted != kinds else []
        options = ["--source", example / "upper.png", *masks_of(example, *kinds), "--output", tmp_path / "out", *only]
        answer = cli("generate", "--run", built, "--target", "onnxruntime", "--threads", 1, *options)
        assert (answer.code, answer.err) == (0, "")
        assert f"Made {', '.join(wanted)} in " in answer.out
        result = json.loads((tmp_path / "out" / "result.json").read_text())
        assert list(result["items"]) == list(wanted)
        assert (result["compatibility"] is None) is (wanted != kinds)
        assert ("Compatibility" in answer.out) is (wanted == kinds)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            "outfit.png", "result.json", *(f"{kind}.png" for kind in wanted)
        }  # fmt: skip
        for kind in wanted:
            mask = np.asarray(Image.open(example / f"{kind}_mask.png"))[..., None]
            made = np.asarray(Image.open(tmp_path / "out" / f"{kind}.png"))
            assert np.array_equal(made, small_graphs.expected_image(kind, source, mask))


def test_generate_says_what_it_did_to_the_files(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    Image.open(example / "upper.png").crop((0, 0, 32, 20)).save(tmp_path / "oblong.png")
    options = ["--source", tmp_path / "oblong.png", *masks_of(example, "bag"), "--output", tmp_path / "out"]
    answer = cli("generate", "--run", built, "--target", "onnxruntime", *options)
    assert answer.code == 0
    assert answer.err == f"note: The image {tmp_path / 'oblong.png'} is 32x20: padded with white to a square.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mask", "bag={bag}", "--only", "bag", "--only", "shoes"], "no mask for shoes; add --mask shoes=FILE"),
        (["--mask", "bag"], "--mask takes KIND=FILE or KIND=auto, as in --mask bag=bag.png, not 'bag'"),
        (["--mask", "bag="], "--mask takes KIND=FILE or KIND=auto.*not 'bag='"),
        (["--mask", "hat={bag}"], "'hat' is not an item kind; choose from"),
        (["--mask", "bag={bag}", "--only", "hat"], "'hat' is not an item kind; choose from"),
        (["--mask", "upper={bag}"], "Made here are bag, lower, shoes, not upper; ask for those only"),
        (["--mask", "bag=nowhere.png"], r"There is no file nowhere\.png: check the path"),
        (["--mask", "bag={bag}", "--server", "127.0.0.1:1"], "Say where to generate: --run FOLDER .*or --server"),
    ],
)
def test_generate_refuses_in_one_line(
    cli: Cli, built: Path, example: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    named = [option.format(bag=example / "bag_mask.png") for option in options]
    common = [
        "--source",
        example / "upper.png",
        "--run",
        built,
        "--target",
        "onnxruntime",
        "--output",
        tmp_path / "out",
    ]
    refused(cli("generate", *common, *named), message)
    assert list(tmp_path.iterdir()) == []


def test_generate_needs_its_source_file(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    options = [*masks_of(example, "bag"), "--run", built, "--target", "onnxruntime", "--output", tmp_path / "out"]
    refused(cli("generate", "--source", tmp_path / "no.png", *options), r"no file .*no\.png: check the path")
    refused(cli("generate", "--source", tmp_path, *options), "is a folder: name one image file")
    (tmp_path / "text.png").write_text("no picture")
    refused(cli("generate", "--source", tmp_path / "text.png", *options), "is not a JPEG, PNG, WEBP, BMP or TIFF image")


def test_generate_spares_a_folder_of_something_else(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path]
    refused(cli("generate", "--run", built, "--target", "onnxruntime", *options), "holds something else than an outfit")
    assert (tmp_path / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("place", [[], ["--run", "nowhere"]])
def test_generate_needs_a_place(cli: Cli, example: Path, tmp_path: Path, place: list[str]) -> None:
    options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path / "out"]
    message = "nowhere holds no run" if place else "Say where to generate"
    refused(cli("generate", *options, *place), message)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_generate_says_what_an_address_is(cli: Cli, example: Path, tmp_path: Path, protocol: str) -> None:
    options = ["--source", f"{example}/upper.png", "--mask", f"bag={example}/bag_mask.png", "--output", f"{tmp_path}/o"]
    answer = cli("generate", *options, "--server", "foo:bar", "--protocol", protocol)
    refused(answer, r"--server takes HOST:PORT, as in 127\.0\.0\.1:8001, not 'foo:bar'")


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port", "--metrics-port"])
def test_serve_takes_ports_that_exist(cli: Cli, tmp_path: Path, option: str) -> None:
    for port in ("-1", "65536"):
        answer = cli("serve", "--repository", str(tmp_path), option, port)
        assert answer.code == 2
        assert f"Invalid value for '{option}'" in answer.err


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_generate_says_when_no_server_answers(cli: Cli, example: Path, tmp_path: Path, protocol: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, not listening: nobody else takes it, and nobody answers
        address = f"127.0.0.1:{held.getsockname()[1]}"
        options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path / "out"]
        answer = cli("generate", *options, "--server", address, "--protocol", protocol)
    refused(answer, rf"No Triton server is ready at {address} after 0 s: start it or check the address")
    assert not (tmp_path / "out").exists()
    refused(cli("generate", *options, "--server", address, "--protocol", "carrier"), "must be .*not 'carrier'")


# demo


def test_demo_spares_a_folder_of_something_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    refused(cli("demo", "--output", tmp_path), "holds something else than a demo's run; choose another --output")
    refused(cli("demo", "--output", tmp_path / "new", "--preset", "huge"), "no preset 'huge'")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
