"""A client of the outfit ensembles: arrays or files in, images and a compatibility out."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from outfitgan.contracts import Arrays
from outfitgan.errors import InputError, OutfitError, ServerError
from outfitgan.generated_outfit import GeneratedBatch, GeneratedOutfit, OutfitFromSource
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.model_graphs import alignment_name, mask_generator_name
from serving.client.protocols import PROTOCOLS, Transport

_WRAPPING = re.compile(r"^(\[[^\]]*\] )?(in ensemble '[^']*', )*")
_ADVICE = re.compile(r" NOTE: .*")  # Triton's, to whoever writes the model configs
_POLL_SECONDS = 0.2
_INVALID = ("400", "StatusCode.INVALID_ARGUMENT")
_Answer = TypeVar("_Answer")


class OutfitClient:
    """A connection to one server over gRPC or HTTP, of the thread that made it; close it, or use a `with` block."""

    def __init__(
        self,
        url: str,  # host:port
        protocol: str = "grpc",  # grpc or http
        timeout: float = 60,  # seconds for one request
    ) -> None:
        if protocol not in PROTOCOLS:
            raise InputError(f"The protocol must be {' or '.join(PROTOCOLS)}, not '{protocol}'.")
        self.url = url
        self._targets: tuple[ItemKind, ...] | None = None
        self._server: Transport = PROTOCOLS[protocol](url.removeprefix("http://").rstrip("/"), timeout)

    def __enter__(self) -> OutfitClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def is_ready(self) -> bool:
        """Return whether the server answers and every model is loaded."""
        try:
            return self._call(self._server.is_ready)
        except ServerError:
            return False

    def wait_until_ready(self, seconds: float) -> None:
        """Return when the server is ready; raise ServerError if it is not after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() >= deadline:
                raise ServerError(
                    f"No Triton server is ready at {self.url} after {seconds:g} s: start it or check the address."
                )
            time.sleep(_POLL_SECONDS)

    def targets(self) -> tuple[ItemKind, ...]:
        """Return the kinds this server generates, in collocation order."""
        if self._targets is None:
            outputs = {tensor["name"] for tensor in self._metadata("outfit")["outputs"]}
            self._targets = tuple(kind for kind in COLLOCATION_ORDER if kind.name in outputs)
        return self._targets

    def image_size(self) -> int:
        """Return S, the side of every image and mask."""
        inputs = self._metadata("outfit")["inputs"]
        return next(int(tensor["shape"][1]) for tensor in inputs if tensor["name"] == "SOURCE")

    def aligned_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds that have a SAM on this server."""
        return self._kinds_of("alignment")

    def mask_kinds(self) -> tuple[ItemKind, ...]:
        """Return the kinds whose reference mask this server generates."""
        return self._kinds_of("mask_generator")

    def statistics(self) -> dict[str, int]:
        """Return how many inferences each model has made since the server started."""
        return {str(m["name"]): int(m.get("inference_count", 0)) for m in self._call(self._server.statistics)}

    def generate(
        self,
        source: NDArray[np.uint8],  # (S, S, 3)
        masks: Mapping[ItemKind, NDArray[np.uint8]],  # (S, S, 1) each
        targets: Sequence[ItemKind],
    ) -> GeneratedOutfit:
        """Generate the items in `targets`; raise InputError if the server refuses, ServerError without an answer."""
        batch = self.generate_batch(source[None], {kind: mask[None] for kind, mask in masks.items()}, targets)
        compatibility = None if batch.compatibility is None else float(batch.compatibility[0])
        return GeneratedOutfit({kind: images[0] for kind, images in batch.images.items()}, compatibility)

    def generate_batch(
        self,
        sources: NDArray[np.uint8],  # (B, S, S, 3)
        masks: Mapping[ItemKind, NDArray[np.uint8]],  # (B, S, S, 1) each
        targets: Sequence[ItemKind],
    ) -> GeneratedBatch:
        """Generate the items in `targets` for a batch; raises what `generate` raises."""
        answer = self._outfit("outfit", sources, masks, targets)
        score = answer.get("COMPATIBILITY")
        return GeneratedBatch({kind: answer[kind.name] for kind in targets}, None if score is None else score[:, 0])

    def generate_encoded(
        self, source: bytes, masks: Mapping[ItemKind, bytes], targets: Sequence[ItemKind]
    ) -> GeneratedOutfit:
        """Generate the items in `targets` from image files; raises what `generate` raises."""
        files = {kind: _file(data) for kind, data in masks.items()}
        answer = self._outfit("outfit_encoded", _file(source), files, targets)
        score = answer.get("COMPATIBILITY")
        images = {kind: _pixels(answer[kind.name][0, 0], "RGB") for kind in targets}
        return GeneratedOutfit(images, None if score is None else float(score[0, 0]))

    def generate_from_source(self, source: bytes, targets: Sequence[ItemKind]) -> OutfitFromSource:
        """Generate the items in `targets` from one photo, with generated masks; raises what `generate` raises."""
        outputs = [*self._outputs(targets), *(f"MASK_{kind.name}" for kind in targets)]
        answer = self._call(lambda: self._server.infer("outfit_from_source", {"SOURCE": _file(source)}, outputs))
        score = answer.get("COMPATIBILITY")
        images = {kind: _pixels(answer[kind.name][0, 0], "RGB") for kind in targets}
        masks = {kind: _pixels(answer[f"MASK_{kind.name}"][0, 0], "L")[..., None] for kind in targets}
        return OutfitFromSource(images, None if score is None else float(score[0, 0]), masks)

    def soft_mask(self, kind: ItemKind, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the silhouette (S, S, 1) that the mask generator of `kind` makes of one source (S, S, 3)."""
        inputs = {"SOURCE": source[None]}
        answer = self._call(lambda: self._server.infer(mask_generator_name(kind), inputs, ["MASK"]))
        made: NDArray[np.uint8] = answer["MASK"][0]
        return made

    def align(
        self, kind: ItemKind, source: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.generic]]:
        """Return WARPED, MATCH and WEIGHT of the SAM of `kind` for one source (S, S, 3) and mask (S, S, 1)."""
        inputs = {"SOURCE": source[None], "MASK": mask[None]}
        outputs = ("WARPED", "MATCH", "WEIGHT")
        answer = self._call(lambda: self._server.infer(alignment_name(kind), inputs, outputs))
        return {name: array[0] for name, array in answer.items()}

    def _outfit(
        self, model: str, source: NDArray[Any], masks: Mapping[ItemKind, NDArray[Any]], targets: Sequence[ItemKind]
    ) -> Arrays:
        outputs = self._outputs(targets)
        inputs = {"SOURCE": source, **{f"MASK_{kind.name}": mask for kind, mask in masks.items()}}
        return self._call(lambda: self._server.infer(model, inputs, outputs))

    def _outputs(self, targets: Sequence[ItemKind]) -> list[str]:
        """Return the ensembles' outputs for `targets`; raise InputError on a kind that this server does not make."""
        served = self.targets()
        if unknown := [kind for kind in targets if kind not in served]:
            raise InputError(f"This server makes {', '.join(served)}, not {', '.join(unknown)}.")
        if not targets:
            raise InputError(f"No item was asked for: choose from {', '.join(served)}.")
        outputs = [kind.name for kind in targets]
        return [*outputs, "COMPATIBILITY"] if set(targets) == set(served) else outputs

    def _kinds_of(self, role: str) -> tuple[ItemKind, ...]:
        models = self.statistics()
        return tuple(kind for kind in self.targets() if f"{role}_{kind}" in models)

    def _metadata(self, model: str) -> dict[str, Any]:
        return self._call(lambda: self._server.metadata(model))

    def _call(self, action: Callable[[], _Answer]) -> _Answer:
        """Return `action()`; raise InputError for what the server refuses, ServerError for everything else."""
        try:
            return action()
        except OutfitError:
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> OutfitError:
        status, message = self._server.read_error(error)
        sentence = _ADVICE.sub("", _WRAPPING.sub("", message)).strip()
        if status in _INVALID and "unknown model" not in sentence:
            return InputError(sentence)
        if status is None:
            return ServerError(f"No Triton server answers at {self.url} ({sentence}): start it or check the address.")
        return ServerError(f"The server at {self.url} cannot answer ({sentence}): check its log.")


def _file(data: bytes) -> NDArray[np.object_]:
    return np.array([[data]], dtype=np.object_)


def _pixels(png: bytes, mode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image.convert(mode))
