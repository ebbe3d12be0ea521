"""One generator for all kinds behind the same public API: a real server of its own, over small graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small_graphs import expected_image

from outfitgan.config import ModelConfig
from outfitgan.errors import InputError
from outfitgan.images import encode_png
from outfitgan.items import ItemKind
from outfitgan.model_graphs import contracts_of
from serving.client.outfit_client import OutfitClient
from serving.in_process import OutfitPipeline
from serving.models.steps import MASK_NOT_SENT
from serving.repository.assemble import assemble
from serving.server.triton_server import TritonServer

pytestmark = pytest.mark.server

TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)

Builder = Callable[[ModelConfig, str], dict[str, Path]]
Counted = Callable[[OutfitClient, Callable[[], object]], dict[str, int]]


@pytest.fixture(scope="module")
def shared(model: ModelConfig) -> ModelConfig:
    return dataclasses.replace(model, generator=dataclasses.replace(model.generator, architecture="shared"))


@pytest.fixture(scope="module")
def shared_engines(shared: ModelConfig, build: Builder) -> dict[str, Path]:
    return build(shared, "openvino")


@pytest.fixture(scope="module")
def urls(
    shared: ModelConfig, shared_engines: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    repository = assemble(shared, shared_engines, tmp_path_factory.mktemp("shared") / "repository", threads=1)
    with TritonServer(repository) as running:
        yield {"grpc": running.grpc_url, "http": running.http_url}


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, urls: dict[str, str]) -> Iterator[OutfitClient]:
    with OutfitClient(urls[request.param], request.param, timeout=30) as client:
        yield client
        assert client.is_ready(), "the server did not survive this test"


def masks_of(mask: np.ndarray) -> dict[ItemKind, np.ndarray]:
    return {kind: np.roll(mask, 3 * index, axis=0) for index, kind in enumerate(TARGETS)}


def test_a_whole_outfit_in_one_pass(client: OutfitClient, source: np.ndarray, mask: np.ndarray, ran: Counted) -> None:
    outfits = []
    counts = ran(client, lambda: outfits.append(client.generate(source, masks_of(mask), TARGETS)))
    assert counts == {"outfit": 1, "prepare": 1, "generator_outfit": 1, "collocation": 1, "finish": 3, "score": 1}
    for kind, silhouette in masks_of(mask).items():
        np.testing.assert_array_equal(outfits[0].images[kind], expected_image(kind, source, silhouette))
    assert outfits[0].compatibility == pytest.approx(np.mean([source, *outfits[0].images.values()]) / 255, abs=1e-4)


def test_shoes_alone_need_no_other_mask(
    client: OutfitClient, source: np.ndarray, mask: np.ndarray, ran: Counted
) -> None:
    outfits = []
    shoes = {ItemKind.SHOES: mask}
    counts = ran(client, lambda: outfits.append(client.generate(source, shoes, [ItemKind.SHOES])))
    assert counts == {"outfit": 1, "prepare": 1, "generator_outfit": 1, "finish": 1}
    assert (list(outfits[0].images), outfits[0].compatibility) == ([ItemKind.SHOES], None)
    expected = expected_image(ItemKind.SHOES, source, mask)
    np.testing.assert_array_equal(outfits[0].images[ItemKind.SHOES], expected)
    encoded = client.generate_encoded(encode_png(source), {ItemKind.SHOES: encode_png(mask)}, [ItemKind.SHOES])
    np.testing.assert_array_equal(encoded.images[ItemKind.SHOES], expected)


def test_an_item_whose_mask_was_not_sent_is_refused(client: OutfitClient, source: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(InputError) as refusal:
        client.generate(source, {ItemKind.SHOES: mask}, [ItemKind.BAG])
    assert str(refusal.value) == MASK_NOT_SENT


def test_a_photo_alone_reads_its_source_once(client: OutfitClient, silhouettes: np.ndarray, ran: Counted) -> None:
    outfits = []
    photo = encode_png(silhouettes)
    counts = ran(client, lambda: outfits.append(client.generate_from_source(photo, TARGETS)))
    masks = dict.fromkeys([f"mask_generator_{kind}" for kind in TARGETS], 1)
    steps = {"decode_source": 1, "clean": 3, "encode": 3, "encode_mask": 3, "score": 1}
    assert counts == {"outfit_from_source": 1, "generator_outfit": 1, "collocation": 1} | masks | steps
    for kind, mask in outfits[0].masks.items():
        assert 0 < mask.mean() < 255
        np.testing.assert_array_equal(outfits[0].images[kind], expected_image(kind, silhouettes, mask))


def test_this_process_makes_what_the_server_makes(
    client: OutfitClient,
    shared: ModelConfig,
    shared_engines: dict[str, Path],
    source: np.ndarray,
    mask: np.ndarray,
) -> None:
    with OutfitPipeline(contracts_of(shared, shared_engines), shared_engines, threads=1) as pipeline:
        for targets in (TARGETS, TARGETS[1:2]):
            masks = {kind: silhouette for kind, silhouette in masks_of(mask).items() if kind in targets}
            here, there = (place.generate(source, masks, targets) for place in (pipeline, client))
            assert list(here.images) == list(there.images) == list(targets)
            for kind in targets:
                np.testing.assert_array_equal(here.images[kind], there.images[kind])
            assert here.compatibility == pytest.approx(there.compatibility, abs=1e-6)
        assert pipeline.mask_kinds() == client.mask_kinds() == TARGETS
        assert pipeline.aligned_kinds() == client.aligned_kinds() == TARGETS
        for place in (pipeline, client):
            np.testing.assert_array_equal(place.soft_mask(ItemKind.LOWER, source), source[..., 1:2])
