"""One photo in, no masks: `outfit_from_source` and the mask generators on the session's real server."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from small_graphs import CHANNELS, expected_image
from tritonclient.utils import InferenceServerException

from outfitgan.errors import InputError
from outfitgan.generated_outfit import OutfitFromSource
from outfitgan.images import encode_png
from outfitgan.items import ItemKind
from serving.client.outfit_client import OutfitClient
from serving.client.protocols import Http
from serving.models.steps import MASK_NOT_MADE

pytestmark = pytest.mark.server

TARGETS = (ItemKind.BAG, ItemKind.LOWER, ItemKind.SHOES)
BAG = {"outfit_from_source": 1, "decode_source": 1, "mask_generator_bag": 1, "clean": 1}
WHOLE = BAG | {
    **dict.fromkeys([f"mask_generator_{kind}" for kind in TARGETS], 1),
    "clean": 3,
    **dict.fromkeys([f"generator_{kind}" for kind in TARGETS], 1),
    "collocation": 1,
    "score": 1,
}
RUN_FOR = {  # outputs -> what runs, and how often
    ("MASK_BAG",): BAG | {"encode_mask": 1},
    ("BAG",): BAG | {"generator_bag": 1, "encode": 1},
    ("BAG", "MASK_BAG"): BAG | {"generator_bag": 1, "encode": 1, "encode_mask": 1},
    ("BAG", "MASK_SHOES"): BAG
    | {"generator_bag": 1, "encode": 1, "mask_generator_shoes": 1, "clean": 2, "encode_mask": 1},
    ("COMPATIBILITY",): WHOLE,
    ("LOWER", "COMPATIBILITY"): WHOLE | {"encode": 1},
}

Counted = Callable[[OutfitClient, Callable[[], object]], dict[str, int]]


def expected_mask(kind: ItemKind, silhouettes: np.ndarray) -> np.ndarray:
    """The rectangle of the kind's channel: the speck beside it is gone and the pinhole in it filled."""
    channel = CHANNELS[kind]
    mask = np.zeros((*silhouettes.shape[:2], 1), np.uint8)
    mask[12 + 2 * channel : 52, 16:48] = 255
    return mask


def ask(client: OutfitClient, photo: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
    """Ask past the client's own choice of outputs, as any program may."""
    return client._server.infer("outfit_from_source", {"SOURCE": file_of(encode_png(photo))}, outputs)


def file_of(data: bytes) -> np.ndarray:
    return np.array([[data]], dtype=np.object_)


def test_a_photo_alone_gives_masks_and_items(client: OutfitClient, silhouettes: np.ndarray) -> None:
    outfit = client.generate_from_source(encode_png(silhouettes), TARGETS)
    assert list(outfit.images) == list(outfit.masks) == list(TARGETS)
    for kind in TARGETS:
        mask = expected_mask(kind, silhouettes)
        np.testing.assert_array_equal(outfit.masks[kind], mask)
        np.testing.assert_array_equal(outfit.images[kind], expected_image(kind, silhouettes, mask))
    expected = np.mean([silhouettes, *outfit.images.values()]) / 255
    assert outfit.compatibility == pytest.approx(expected, abs=1e-4)


def test_some_items_have_no_compatibility(client: OutfitClient, silhouettes: np.ndarray, ran: Counted) -> None:
    made: list[OutfitFromSource] = []
    counts = ran(client, lambda: made.append(client.generate_from_source(encode_png(silhouettes), [ItemKind.BAG])))
    assert counts == RUN_FOR["BAG", "MASK_BAG"]
    assert (list(made[0].images), list(made[0].masks), made[0].compatibility) == ([ItemKind.BAG], [ItemKind.BAG], None)


@pytest.mark.parametrize("outputs", RUN_FOR, ids="+".join)
def test_a_subset_of_outputs_runs_what_it_needs(
    client: OutfitClient, silhouettes: np.ndarray, ran: Counted, outputs: tuple[str, ...]
) -> None:
    assert ran(client, lambda: ask(client, silhouettes, list(outputs))) == RUN_FOR[outputs]


def test_a_mask_that_is_made_fits_the_one_that_is_sent(client: OutfitClient, silhouettes: np.ndarray) -> None:
    """What `outfit_from_source` makes is what `outfit_encoded` makes of its masks."""
    photo = encode_png(silhouettes)
    made = client.generate_from_source(photo, TARGETS)
    sent = client.generate_encoded(photo, {kind: encode_png(mask) for kind, mask in made.masks.items()}, TARGETS)
    for kind in TARGETS:
        np.testing.assert_array_equal(made.images[kind], sent.images[kind])
    assert made.compatibility == sent.compatibility


def test_a_batch_of_photos(client: OutfitClient, silhouettes: np.ndarray) -> None:
    photos = [silhouettes, silhouettes[..., ::-1].copy(), silhouettes[::-1].copy()]
    files = np.array([[encode_png(photo)] for photo in photos], dtype=np.object_)
    answer = client._server.infer("outfit_from_source", {"SOURCE": files}, ["MASK_LOWER", "LOWER"])
    lower = expected_mask(ItemKind.LOWER, silhouettes)
    for row, mask in enumerate((lower, lower, lower[::-1])):
        found = {name: np.array(Image.open(io.BytesIO(array[row, 0]))) for name, array in answer.items()}
        np.testing.assert_array_equal(found["MASK_LOWER"], mask[..., 0])
        np.testing.assert_array_equal(found["LOWER"], expected_image(ItemKind.LOWER, photos[row], mask))


def test_the_server_says_what_it_generates(client: OutfitClient, silhouettes: np.ndarray) -> None:
    assert client.mask_kinds() == client.aligned_kinds() == TARGETS
    for kind in TARGETS:
        soft = client.soft_mask(kind, silhouettes)
        np.testing.assert_array_equal(soft, silhouettes[..., CHANNELS[kind]][..., None])


def test_an_empty_generated_mask_is_refused_where_it_is_needed(client: OutfitClient, silhouettes: np.ndarray) -> None:
    photo = silhouettes.copy()
    photo[..., CHANNELS[ItemKind.SHOES]] = 127  # one level short of garment
    refused(client, lambda: ask(client, photo, ["MASK_SHOES"]), MASK_NOT_MADE)
    assert set(ask(client, photo, ["BAG", "MASK_LOWER"])) == {"BAG", "MASK_LOWER"}
    with pytest.raises(InputError) as refusal:
        client.generate_from_source(encode_png(photo), [ItemKind.SHOES])
    assert str(refusal.value) == MASK_NOT_MADE


def test_what_is_no_photo_is_refused(client: OutfitClient, silhouettes: np.ndarray) -> None:
    for data, sentence in ((b"dear diary", "The image SOURCE is not a JPEG"), (b"", "The image SOURCE is empty")):
        with pytest.raises(InputError, match=sentence):
            client.generate_from_source(data, TARGETS)
    with pytest.raises(InputError, match=r"makes bag, lower, shoes, not upper\.$"):
        client.generate_from_source(encode_png(silhouettes), [ItemKind.UPPER])
    with pytest.raises(InputError, match="No item was asked for"):
        client.generate_from_source(encode_png(silhouettes), [])


def test_a_request_with_nothing_or_too_much_leaves_the_server_alive(
    client: OutfitClient, silhouettes: np.ndarray
) -> None:
    refused(client, lambda: client._server.infer("outfit_from_source", {}, ["BAG"]), "")
    masked = {"SOURCE": file_of(encode_png(silhouettes)), "MASK_BAG": file_of(b"")}
    refused(client, lambda: client._server.infer("outfit_from_source", masked, ["BAG"]), "MASK_BAG")
    refused(client, lambda: client._server.infer("decode_source", {}, ["SOURCE"]), "")


def refused(client: OutfitClient, action: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InferenceServerException) as refusal:
        action()
    assert refusal.value.status() == ("400" if isinstance(client._server, Http) else "StatusCode.INVALID_ARGUMENT")
    assert sentence in refusal.value.message()
    assert "Traceback" not in refusal.value.message()
