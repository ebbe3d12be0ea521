"""From files to a folder of pictures: what `outfitgan generate` does, in this process or against a server."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import InputError
from outfitgan.evaluation.pictures import Correspondence, outfit_sheet
from outfitgan.files import partial_folder
from outfitgan.images import LoadedImage, encode_png, load_image, load_mask, read_bytes
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from serving.outfit import GeneratedOutfit

if TYPE_CHECKING:
    from serving.client import OutfitClient
    from serving.pipeline import OutfitPipeline

Pixels = NDArray[np.uint8]


class Aligner(Protocol):
    """Both the pipeline and the client can say where each part came from."""

    def align(self, kind: ItemKind, source: Pixels, mask: Pixels) -> dict[str, NDArray[np.generic]]:
        """Return WARPED, MATCH and WEIGHT."""


@dataclass(frozen=True)
class Request:
    """The files of one request, read and checked."""

    source: LoadedImage
    masks: dict[ItemKind, LoadedImage]
    source_file: bytes
    mask_files: dict[ItemKind, bytes]

    @property
    def notes(self) -> list[str]:
        """What was done to the files, a sentence each."""
        return [note for image in (self.source, *self.masks.values()) for note in image.notes]


def read_request(
    source: Path, masks: Mapping[ItemKind, Path], targets: Sequence[ItemKind], made: Sequence[ItemKind], size: int
) -> Request:
    """Read what a request needs of what `made` offers; raise InputError on the first file that cannot be used."""
    for kind in targets:
        if kind not in made:
            raise InputError(f"Made here are {', '.join(made)}, not {kind}; ask for those only.")
        if kind not in masks:
            raise InputError(f"There is no mask for {kind}; add --mask {kind}=FILE, or leave {kind} out with --only.")
    files = {kind: read_bytes(masks[kind]) for kind in targets}
    data = read_bytes(source)
    loaded = {kind: load_mask(file, str(masks[kind]), size) for kind, file in files.items()}
    return Request(load_image(data, str(source), size), loaded, data, files)


def generate_here(pipeline: OutfitPipeline, request: Request, output: Path) -> dict[str, object]:
    """Generate in this process and write the pictures; return what result.json says."""
    check_output(output)
    pipeline.open()
    began = time.perf_counter()
    made = pipeline.generate(request.source.pixels, _pixels(request.masks), list(request.masks))
    return _write(made, request, pipeline, pipeline.source_kind, output, time.perf_counter() - began)


def generate_served(client: OutfitClient, request: Request, output: Path) -> dict[str, object]:
    """Send the files to a server and write the pictures; return what result.json says."""
    check_output(output)
    began = time.perf_counter()
    made = client.generate_encoded(request.source_file, request.mask_files, list(request.masks))
    seconds = time.perf_counter() - began
    source_kind = next(kind for kind in COLLOCATION_ORDER if kind not in client.targets())
    return _write(made, request, client, source_kind, output, seconds)


def check_output(output: Path) -> None:
    """Raise InputError unless `output` is new, empty, or an outfit written before."""
    ours = {f"{kind}.png" for kind in ItemKind} | {"outfit.png", "result.json"}
    if output.exists() and (not output.is_dir() or {entry.name for entry in output.iterdir()} - ours):
        raise InputError(f"{output} holds something else than an outfit; choose another --output.")


def _write(
    made: GeneratedOutfit, request: Request, aligner: Aligner, source_kind: ItemKind, output: Path, seconds: float
) -> dict[str, object]:
    masks = _pixels(request.masks)
    source = request.source.pixels
    found = {kind: _correspondence(aligner.align(kind, source, mask)) for kind, mask in masks.items()}
    sheet = outfit_sheet(source, source_kind, masks, made.images, made.compatibility, found)
    result: dict[str, object] = {
        "source": source_kind.value,
        "items": {kind.value: f"{kind}.png" for kind in made.images},
        "compatibility": made.compatibility,
        "seconds": round(seconds, 4),
    }
    with partial_folder(output) as partial:
        for kind, image in made.images.items():
            (partial / f"{kind}.png").write_bytes(encode_png(image))
        sheet.save(partial / "outfit.png")
        (partial / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _pixels(images: Mapping[ItemKind, LoadedImage]) -> dict[ItemKind, Pixels]:
    return {kind: image.pixels for kind, image in images.items()}


def _correspondence(found: dict[str, NDArray[np.generic]]) -> Correspondence:
    match, weight = found["MATCH"], found["WEIGHT"]
    return Correspondence(cast("NDArray[np.int32]", match), cast("NDArray[np.float32]", weight))
