"""The command line: every verb explains itself, and an expected error is one line and exit code 2."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import OPTIONS, QUICK, Cli, masks_of, outfitgan, refused
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from outfitgan.config import load_config, load_preset, override, save_config
from outfitgan.items import COLLOCATION_ORDER, ItemKind

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
    answer = cli("build", "--run", built, "--runtime", "onnxruntime")
    assert answer.code == 0
    assert {path: path.stat().st_mtime_ns for path in (built / "engines").rglob("*")} == before


def test_the_old_name_of_an_option_works_with_a_note(cli: Cli, built: Path) -> None:
    answer = cli("build", "--run", built, "--target", "onnxruntime")
    assert (answer.code, answer.err.splitlines()[0]) == (
        0,
        "note: --target is now called --runtime; the old name works for now.",
    )
    assert answer.out.startswith("Built 10 onnxruntime fp32 engines in ")


def test_python_m_outfitgan_is_the_command_line() -> None:
    command = [sys.executable, "-m", "outfitgan", "build", "--run", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nowhere holds no run")


def test_an_engine_that_was_not_built_is_asked_for(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    build = r"has no openvino fp32 engine yet; build it with 'outfitgan build --run .* --runtime openvino"
    refused(cli("assemble", "--run", built, "--output", tmp_path / "repository"), build)
    options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path / "out"]
    refused(cli("generate", "--run", built, *options), build)
    assert list(tmp_path.iterdir()) == []


# demo


def test_demo_spares_a_folder_of_something_else(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    refused(cli("demo", "--output", tmp_path), "holds something else than a demo's run; choose another --output")
    refused(cli("demo", "--output", tmp_path / "new", "--preset", "huge"), "no preset 'huge'")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
