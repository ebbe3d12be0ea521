"""An outfit through system shared memory: what a program on the server's own machine does."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest
from small_graphs import expected_image
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import shared_memory

from outfitgan.items import ItemKind
from serving.server.triton_server import TritonServer

pytestmark = pytest.mark.server


@pytest.fixture
def client(server: TritonServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.grpc_url) as client:
        yield client
        client.unregister_system_shared_memory()


def test_inputs_and_output_stay_in_shared_memory(
    client: InferenceServerClient, source: np.ndarray, mask: np.ndarray
) -> None:
    sent, key = {"SOURCE": source[None], "MASK_SHOES": mask[None]}, f"/outfitgan_test_{uuid4().hex[:8]}"
    taken = sum(array.nbytes for array in sent.values())
    region = shared_memory.create_shared_memory_region("outfit", key, taken + source.nbytes)
    try:
        client.register_system_shared_memory("outfit", key, taken + source.nbytes)
        inputs, start = [], 0
        for name, array in sent.items():
            shared_memory.set_shared_memory_region(region, [array], offset=start)
            inputs.append(InferInput(name, array.shape, "UINT8"))
            inputs[-1].set_shared_memory("outfit", array.nbytes, offset=start)
            start += array.nbytes
        shoes = InferRequestedOutput("SHOES")
        shoes.set_shared_memory("outfit", source.nbytes, offset=taken)
        answer = client.infer("outfit", inputs, outputs=[shoes])
        assert list(answer.get_response().raw_output_contents) == [b""]  # nothing came through the protocol
        made = shared_memory.get_contents_as_numpy(region, np.uint8, source.shape, offset=taken)
        np.testing.assert_array_equal(made, expected_image(ItemKind.SHOES, source, mask))
    finally:
        client.unregister_system_shared_memory("outfit")
        shared_memory.destroy_shared_memory_region(region)
