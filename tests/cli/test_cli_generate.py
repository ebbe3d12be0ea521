"""`outfitgan generate` and `serve`: what is written, and what is refused in one line."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_cases import Cli, masks_of, refused
from PIL import Image

from outfitgan.items import ItemKind, targets_of


def test_generate_writes_the_outfit(cli: Cli, built: Path, example: Path, tmp_path: Path, small_graphs: Any) -> None:
    kinds = targets_of(ItemKind.UPPER)
    source = np.asarray(Image.open(example / "upper.png"))
    for wanted in (kinds, kinds[2:]):
        only = [part for kind in wanted for part in ("--only", str(kind))] if wanted != kinds else []
        options = ["--source", example / "upper.png", *masks_of(example, *kinds), "--output", tmp_path / "out", *only]
        answer = cli("generate", "--run", built, "--runtime", "onnxruntime", "--threads", 1, *options)
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
    answer = cli("generate", "--run", built, "--runtime", "onnxruntime", *options)
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
        "--runtime",
        "onnxruntime",
        "--output",
        tmp_path / "out",
    ]
    refused(cli("generate", *common, *named), message)
    assert list(tmp_path.iterdir()) == []


def test_generate_needs_its_source_file(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    options = [*masks_of(example, "bag"), "--run", built, "--runtime", "onnxruntime", "--output", tmp_path / "out"]
    refused(cli("generate", "--source", tmp_path / "no.png", *options), r"no file .*no\.png: check the path")
    refused(cli("generate", "--source", tmp_path, *options), "is a folder: name one image file")
    (tmp_path / "text.png").write_text("no picture")
    refused(cli("generate", "--source", tmp_path / "text.png", *options), "is not a JPEG, PNG, WEBP, BMP or TIFF image")


def test_generate_spares_a_folder_of_something_else(cli: Cli, built: Path, example: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    options = ["--source", example / "upper.png", *masks_of(example, "bag"), "--output", tmp_path]
    refused(
        cli("generate", "--run", built, "--runtime", "onnxruntime", *options), "holds something else than an outfit"
    )
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
