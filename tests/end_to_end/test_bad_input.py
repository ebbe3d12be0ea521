"""Bad files, bad requests and damaged folders: one sentence, exit code 2 and nothing left behind; never a crash.

Every file goes through `generate` in process, and its bytes go to the server past the command line's own checks.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_pictures import (
    as_upright_png,
    damaged_jpeg,
    deep,
    frames,
    half,
    huge,
    on_canvas,
    saved,
    see_through,
    through_cmyk,
    turned,
    upper_half_white,
)
from numpy.typing import NDArray
from PIL import Image

from outfitgan.errors import InputError
from outfitgan.items import ItemKind
from serving.client.outfit_client import OutfitClient

Finished = subprocess.CompletedProcess[str]
Verb = Callable[..., Finished]
Maker = Callable[[Image.Image], bytes]

BAG, SHOES = ItemKind.BAG, ItemKind.SHOES


@pytest.fixture(scope="module")
def photo(example: Path) -> Image.Image:
    """A garment, large enough for a file of some length, and not square."""
    return Image.open(example / "upper.png").resize((160, 160)).crop((0, 0, 160, 120))


@pytest.fixture(scope="module")
def silhouette(example: Path) -> Image.Image:
    return Image.open(example / "bag_mask.png").convert("L")


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, served: dict[str, str]) -> Iterator[OutfitClient]:
    with OutfitClient(served[request.param], request.param, timeout=30) as client:
        yield client
        assert client.is_ready(), "the server did not survive this test"


SOURCES_REFUSED: dict[str, tuple[str, Maker, str]] = {
    "corrupt JPEG": ("a.jpg", damaged_jpeg, "is truncated or corrupt"),
    "truncated JPEG": ("a.jpg", lambda image: half(saved(image, "JPEG")), "is truncated or corrupt"),
    "truncated PNG": ("a.png", lambda image: half(saved(image, "PNG")), "is truncated or corrupt"),
    "text": ("a.jpg", lambda image: b"dear diary, today I bought a coat\n" * 9, "is not a JPEG, PNG, WEBP"),
    "empty file": ("a.png", lambda image: b"", r"is empty \(0 bytes\): send the whole file"),
    "one pixel": ("a.png", lambda image: saved(image.resize((1, 1)), "PNG"), "is 1x1: send at least 16x16"),
    "12000x12000": ("a.png", lambda image: huge(), "is 12000x12000: make it smaller"),
    "animated GIF": ("a.gif", lambda image: frames(image, "GIF"), "is not a JPEG, PNG, WEBP"),
    "animated PNG": ("a.png", lambda image: frames(image, "PNG"), "is animated or has pages: save one frame"),
}
MASKS_REFUSED: dict[str, tuple[str, Maker, str]] = {
    "not square": ("m.png", lambda mask: saved(on_canvas(mask, 96, 64), "PNG"), "is 96x64, not square"),
    "all black": (
        "m.png",
        lambda mask: saved(mask.point(lambda _: 0), "PNG"),
        "is empty .*paint the item's silhouette",
    ),
    "truncated PNG": ("m.png", lambda mask: half(saved(mask, "PNG")), "is truncated or corrupt"),
    "empty file": ("m.png", lambda mask: b"", r"is empty \(0 bytes\)"),
    "one pixel": ("m.png", lambda mask: saved(mask.resize((1, 1)), "PNG"), "is 1x1"),
    "12000x12000": ("m.png", lambda mask: huge(), "is 12000x12000: make it smaller"),
    "animated PNG": ("m.png", lambda mask: frames(mask, "PNG"), "is animated or has pages"),
}
SOURCES_TAKEN: dict[str, tuple[Maker, Maker, str]] = {  # the file, a plain PNG of the same content, and the note
    "CMYK JPEG": (lambda i: saved(i.convert("CMYK"), "JPEG"), through_cmyk, "was converted from CMYK to RGB"),
    "16-bit PNG": (
        lambda i: saved(deep(i), "PNG"),
        lambda i: saved(i.convert("L"), "PNG"),
        "more than 8 bits a channel",
    ),
    "transparent PNG": (
        lambda i: saved(see_through(i), "PNG"),
        upper_half_white,
        "transparent in places: laid on white",
    ),
    "EXIF-rotated JPEG": (turned, as_upright_png, "was turned upright as its EXIF orientation says"),
}


def refused(done: Finished, message: str) -> None:
    """One error sentence that `message` describes, and nothing else."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.match(f"error: .*{message}.*", lines[0]), lines[0]


def taken(done: Finished, note: str) -> None:
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("note: ") for line in lines), done.stderr
    assert len([line for line in lines if re.search(note, line)]) == 1, done.stderr


def alter(file: Path) -> None:
    """Turn the bits of its last byte over."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 255]))


def asking_for_a_bag(example: Path, output: Path) -> list[str]:
    """The options of `generate` that are in order."""
    return ["--source", f"{example}/upper.png", "--mask", f"bag={example}/bag_mask.png", "--output", str(output)]


def item(output: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(output / "bag.png"))


# Files, in process


@pytest.mark.parametrize("case", SOURCES_REFUSED)
def test_a_bad_source_is_refused(
    here: Verb, run: Path, photo: Image.Image, example: Path, tmp_path: Path, case: str
) -> None:
    name, make, says = SOURCES_REFUSED[case]
    (tmp_path / name).write_bytes(make(photo))
    mask = f"bag={example / 'bag_mask.png'}"
    done = here("generate", "--run", run, "--source", tmp_path / name, "--mask", mask, "--output", tmp_path / "out")
    refused(done, f"The image {tmp_path / name} {says}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("case", MASKS_REFUSED)
def test_a_bad_mask_is_refused(
    here: Verb, run: Path, silhouette: Image.Image, example: Path, tmp_path: Path, case: str
) -> None:
    name, make, says = MASKS_REFUSED[case]
    (tmp_path / name).write_bytes(make(silhouette))
    options = ["--mask", f"bag={tmp_path / name}", "--mask", f"shoes={example / 'shoes_mask.png'}"]
    done = here("generate", "--run", run, "--source", example / "upper.png", *options, "--output", tmp_path / "out")
    refused(done, f"The mask {tmp_path / name} {says}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("case", SOURCES_TAKEN)
def test_an_unusual_source_gives_what_a_plain_one_does(
    here: Verb, run: Path, photo: Image.Image, example: Path, tmp_path: Path, case: str
) -> None:
    unusual, plain, note = SOURCES_TAKEN[case]
    (tmp_path / "unusual").write_bytes(unusual(photo))
    (tmp_path / "plain").write_bytes(plain(photo))
    options = ["--run", run, "--mask", f"bag={example / 'bag_mask.png'}"]
    for name in ("unusual", "plain"):
        done = here("generate", *options, "--source", tmp_path / name, "--output", tmp_path / f"{name}.out")
        taken(done, f"The image {tmp_path}/unusual .*{note}" if name == "unusual" else "padded with white")
    difference = np.abs(item(tmp_path / "unusual.out").astype(int) - item(tmp_path / "plain.out"))
    assert difference.max() <= 1


def test_a_mask_of_another_size_is_resized(
    here: Verb, run: Path, silhouette: Image.Image, example: Path, tmp_path: Path
) -> None:
    side = 3 * silhouette.width
    silhouette.resize((side, side), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    options = ["--run", run, "--source", example / "upper.png"]
    note = f"The mask {tmp_path}/large.png is {side}x{side}: resized to 64x64"
    taken(here("generate", *options, "--mask", f"bag={tmp_path}/large.png", "--output", tmp_path / "large"), note)
    plain = here("generate", *options, "--mask", f"bag={example}/bag_mask.png", "--output", tmp_path / "plain")
    assert plain.stderr == ""
    assert np.array_equal(item(tmp_path / "large"), item(tmp_path / "plain"))


# Files, served


@pytest.mark.server
@pytest.mark.parametrize("case", SOURCES_REFUSED)
def test_the_server_refuses_a_bad_source(
    client: OutfitClient, photo: Image.Image, silhouette: Image.Image, case: str
) -> None:
    _, make, says = SOURCES_REFUSED[case]
    with pytest.raises(InputError, match=f"^The image SOURCE {says}"):
        client.generate_encoded(make(photo), {BAG: saved(silhouette, "PNG")}, [BAG])


@pytest.mark.server
@pytest.mark.parametrize("case", MASKS_REFUSED)
def test_the_server_refuses_a_bad_mask(
    client: OutfitClient, photo: Image.Image, silhouette: Image.Image, case: str
) -> None:
    _, make, says = MASKS_REFUSED[case]
    good, bad = saved(silhouette, "PNG"), make(silhouette)
    with pytest.raises(InputError, match=f"^The mask MASK_BAG {says}"):
        client.generate_encoded(saved(photo, "PNG"), {BAG: bad, SHOES: good}, [BAG, SHOES])


@pytest.mark.server
@pytest.mark.parametrize("case", SOURCES_TAKEN)
def test_the_server_takes_an_unusual_source_as_a_plain_one(
    client: OutfitClient, photo: Image.Image, silhouette: Image.Image, case: str
) -> None:
    unusual, plain, _ = SOURCES_TAKEN[case]
    files = unusual(photo), plain(photo), saved(Image.new("RGB", photo.size, "white"), "PNG")
    masks = {BAG: saved(silhouette, "PNG")}
    made = [client.generate_encoded(file, masks, [BAG]).images[BAG].astype(int) for file in files]
    assert np.abs(made[0] - made[1]).max() <= 1
    assert np.abs(made[0] - made[2]).max() > 8, "the source makes no difference"


@pytest.mark.server
def test_the_server_resizes_a_mask(client: OutfitClient, photo: Image.Image, silhouette: Image.Image) -> None:
    large = silhouette.resize((3 * silhouette.width,) * 2, Image.Resampling.NEAREST)
    files = [saved(mask, "PNG") for mask in (large, silhouette)]
    made = [client.generate_encoded(saved(photo, "PNG"), {BAG: file}, [BAG]).images[BAG] for file in files]
    assert np.array_equal(made[0], made[1])


# Requests


@pytest.mark.server
def test_the_server_refuses_an_item_without_its_mask(
    client: OutfitClient, photo: Image.Image, silhouette: Image.Image
) -> None:
    masks = {BAG: saved(silhouette, "PNG")}
    with pytest.raises(InputError, match="whose mask was not sent"):
        client.generate_encoded(saved(photo, "PNG"), masks, [BAG, SHOES])
    with pytest.raises(InputError, match=r"makes bag, lower, shoes, not upper\.$"):
        client.generate_encoded(saved(photo, "PNG"), masks, [ItemKind.UPPER])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--only", "bag", "--only", "shoes"], "There is no mask for shoes; add --mask shoes=FILE"),
        (["--mask", "shoes=nowhere.png"], r"There is no file nowhere\.png: check the path"),
        (["--mask", "hat=hat.png"], "'hat' is not an item kind; choose from upper, bag, lower, shoes"),
        (["--only", "hat"], "'hat' is not an item kind"),
        (["--only", "upper"], "Made here are bag, lower, shoes, not upper; ask for those only"),
        (["--runtime", "abacus"], "no runtime 'abacus'"),
        (["--precision", "fp7"], "There is no engine precision .fp7.; choose from fp32, bf16, fp16"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    here: Verb, run: Path, example: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    refused(here("generate", "--run", run, *asking_for_a_bag(example, tmp_path / "out"), *options), says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_the_command_line_names_a_bad_file_before_it_sends_it(
    outfitgan: Verb, served: dict[str, str], example: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("no picture")
    options = asking_for_a_bag(example, tmp_path / "out")
    done = outfitgan("generate", "--server", served["grpc"], *options, "--source", tmp_path / "a.jpg")
    refused(done, f"The image {tmp_path}/a.jpg is not a JPEG")
    assert not (tmp_path / "out").exists()


# Runs, graphs and engines


def test_a_missing_checkpoint_and_an_altered_one_are_refused(here: Verb, run_copy: Path) -> None:
    checkpoint = next((run_copy / "checkpoints").glob("outfit-*.safetensors"))
    alter(checkpoint)
    refused(here("export", "--run", run_copy), f"The checkpoint {checkpoint} was altered since it was written")
    checkpoint.unlink()
    refused(here("export", "--run", run_copy), f"The checkpoint {checkpoint} is missing; restore it or train")


def test_a_missing_run_is_refused(here: Verb, example: Path, tmp_path: Path) -> None:
    for verb in ("export", "build", "assemble", "generate"):
        options = asking_for_a_bag(example, tmp_path / "out") if verb == "generate" else []
        refused(here(verb, "--run", tmp_path / "none", *options), f"{tmp_path}/none holds no run .*; make one with")
    assert list(tmp_path.iterdir()) == []


def test_an_altered_graph_is_refused(here: Verb, run_copy: Path, example: Path, tmp_path: Path) -> None:
    graph = run_copy / "graphs" / "generator_bag.fp32.onnx"
    alter(graph)
    options = asking_for_a_bag(example, tmp_path / "out")
    for verb, rest in (("build", []), ("assemble", []), ("generate", options)):
        refused(
            here(verb, "--run", run_copy, *rest), f"{graph} was altered after its export .*; export the graph again"
        )
    assert not (tmp_path / "out").exists()


def test_a_missing_engine_and_an_altered_one_are_refused_until_they_are_built(
    here: Verb, run_copy: Path, example: Path, tmp_path: Path
) -> None:
    options = asking_for_a_bag(example, tmp_path / "out")
    engine = next((run_copy / "engines").glob("generator_bag.openvino.fp32.*"))
    weights = max(engine.iterdir(), key=lambda path: path.stat().st_size)
    alter(weights)
    for verb, rest in (("assemble", []), ("generate", options)):
        refused(here(verb, "--run", run_copy, *rest), f"{re.escape(weights.name)}.* was altered")
    shutil.rmtree(engine)
    for verb, rest in (("assemble", []), ("generate", options)):
        refused(here(verb, "--run", run_copy, *rest), "generator_bag has no openvino fp32 engine yet; build it with")
    assert not (tmp_path / "out").exists()
    assert here("build", "--run", run_copy).returncode == 0
    assert here("generate", "--run", run_copy, *options).returncode == 0
    assert not list(tmp_path.rglob("*.partial"))


# The server's own start


@pytest.mark.server
def test_serve_refuses_an_altered_engine(outfitgan: Verb, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "repository" / "alignment_bag", tmp_path / "repository" / "alignment_bag")
    weights = max((tmp_path / "repository/alignment_bag/1").iterdir(), key=lambda path: path.stat().st_size)
    alter(weights)
    ports = ["--http-port", 0, "--grpc-port", 0, "--metrics-port", 0]
    done = outfitgan("serve", "--repository", tmp_path / "repository", *ports)
    refused(done, f"did not start: model alignment_bag: .*{re.escape(weights.name)}.* was altered")


@pytest.mark.server
def test_serve_refuses_a_port_in_use(outfitgan: Verb, run: Path, served: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, OutfitClient(served["grpc"]) as client:
        busy = {  # by another server of ours, and by something else
            "gRPC": served["grpc"].rpartition(":")[2],
            "HTTP": served["http"].rpartition(":")[2],
            "metrics": str(listener.getsockname()[1]),
        }
        for title, port in busy.items():
            ports = {"grpc": "0", "http": "0", "metrics": "0", title.lower(): port}
            options = [part for name, value in ports.items() for part in (f"--{name}-port", value)]
            done = outfitgan("serve", "--repository", run / "repository", *options)
            refused(done, rf"The {title} port {port} on 127\.0\.0\.1 cannot be used .*choose another port")
        assert client.is_ready()
