"""From a request to a folder of pictures: what `outfitgan generate` does, in this process or against a server."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from outfitgan.errors import InputError
from outfitgan.files import partial_folder
from outfitgan.generated_outfit import GeneratedOutfit
from outfitgan.images import encode_png
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.pictures import Correspondence, outfit_sheet
from serving.request import OutfitService, Request

if TYPE_CHECKING:
    from serving.client.outfit_client import OutfitClient
    from serving.in_process import OutfitPipeline


def generate_here(pipeline: OutfitPipeline, request: Request, output: Path) -> dict[str, object]:
    """Generate in this process and write the pictures; return the content of result.json."""
    check_output(output)
    pipeline.open(request.masks)
    began = time.perf_counter()
    made = pipeline.generate(request.source, request.mask_pixels(), list(request.masks))
    return _write(made, request, pipeline, output, time.perf_counter() - began)


def generate_served(client: OutfitClient, request: Request, output: Path) -> dict[str, object]:
    """Send the files to a server and write the pictures; return the content of result.json."""
    check_output(output)
    files = {kind: mask.file for kind, mask in request.masks.items()}
    began = time.perf_counter()
    made = client.generate_encoded(request.source_file, files, list(files))
    return _write(made, request, client, output, time.perf_counter() - began)


def summary(request: Request, result: Mapping[str, object], output: Path) -> str:
    """Return a sentence on what was generated."""
    score = "" if result["compatibility"] is None else f" Compatibility {result['compatibility']:.2f}."
    return f"Made {', '.join(request.masks)} in {result['seconds']} s.{score} Look at {output}/outfit.png."


def check_output(output: Path) -> None:
    """Raise InputError unless `output` is new, empty, or an outfit written before."""
    ours = {"outfit.png", "result.json"} | {f"{kind}{end}" for kind in ItemKind for end in (".png", "_mask.png")}
    if output.exists() and (not output.is_dir() or {entry.name for entry in output.iterdir()} - ours):
        raise InputError(f"{output} holds something else than an outfit; choose another --output.")


def _write(
    made: GeneratedOutfit, request: Request, service: OutfitService, output: Path, seconds: float
) -> dict[str, object]:
    masks = request.mask_pixels()
    source_kind = next(kind for kind in COLLOCATION_ORDER if kind not in service.targets())
    aligned = service.aligned_kinds()
    found = {kind: service.align(kind, request.source, mask) for kind, mask in masks.items() if kind in aligned}
    correspondences = {kind: _correspondence(outputs) for kind, outputs in found.items()}
    sheet = outfit_sheet(request.source, source_kind, masks, made.images, made.compatibility, correspondences)
    generated = [kind for kind, mask in request.masks.items() if mask.generated]
    result: dict[str, object] = {
        "source": source_kind.value,
        "items": {kind.value: f"{kind}.png" for kind in made.images},
        "generated_masks": {kind.value: f"{kind}_mask.png" for kind in generated},
        "compatibility": made.compatibility,
        "seconds": round(seconds, 4),
    }
    with partial_folder(output) as partial:
        for kind, image in made.images.items():
            (partial / f"{kind}.png").write_bytes(encode_png(image))
        for kind in generated:
            (partial / f"{kind}_mask.png").write_bytes(request.masks[kind].file)
        sheet.save(partial / "outfit.png")
        (partial / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _correspondence(found: dict[str, NDArray[np.generic]]) -> Correspondence:
    match, weight = found["MATCH"], found["WEIGHT"]
    return Correspondence(cast("NDArray[np.int32]", match), cast("NDArray[np.float32]", weight))
