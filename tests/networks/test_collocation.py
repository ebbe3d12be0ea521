"""The CCM: outfits read in order, missing items, and both heads by their definitions."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from network_cases import idle, outfits, tiny, trained
from torch import Tensor

from outfitgan.config import CollocationHead, ModelConfig
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.networks.collocation import (
    BinaryCollocation,
    CollocationClassifier,
    NextItemCollocation,
    build_classifier,
    pairs,
)

HEADS: tuple[CollocationHead, ...] = get_args(CollocationHead)
both_heads = pytest.mark.parametrize("head", HEADS)


def classifier(model: ModelConfig) -> CollocationClassifier:
    torch.manual_seed(2)
    return trained(build_classifier(model))


def of_head(head: CollocationHead, **changes: object) -> CollocationClassifier:
    return classifier(tiny(collocation__head=head, **changes))


def test_a_config_names_each_head() -> None:
    assert [type(of_head(head)) for head in HEADS] == [BinaryCollocation, NextItemCollocation]


@both_heads
@pytest.mark.parametrize("size", [32, 64])
def test_the_ccm_reads_the_items_in_order(head: CollocationHead, size: int) -> None:
    network, images = of_head(head, image_size=size), outfits(3, size)
    logits = network(images)
    assert logits.shape == (3,)
    for order in ([1, 0, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0]):
        assert (network(images[:, order]) - logits).abs().min() > 1e-5
    for slot in range(4):
        changed = images.clone()
        changed[:, slot] = -changed[:, slot]
        assert (network(changed) - logits).abs().min() > 1e-5


@both_heads
def test_another_order_is_the_items_in_that_order(head: CollocationHead) -> None:
    """With the same weights; a sequence of the kinds as they come needs no place of its own."""
    plain, images = of_head(head), outfits(3, 32)
    found = set()
    for order in itertools.permutations(COLLOCATION_ORDER):
        network = of_head(head, collocation__order=[str(kind) for kind in order])
        network.load_state_dict(plain.state_dict())
        items = dict(zip(COLLOCATION_ORDER, images.unbind(dim=1), strict=True))
        arranged = torch.stack([items[kind] for kind in order], dim=1)
        logits = network(images)
        torch.testing.assert_close(logits, plain(arranged), atol=1e-5, rtol=1e-4)
        found.add(round(float(logits[0]), 4))
    assert len(found) > 12  # of 24 orders


@both_heads
def test_the_ccm_judges_each_outfit_by_itself(head: CollocationHead) -> None:
    network, images = of_head(head), outfits(4, 64)
    together = network(images)
    assert together.std() > 1e-4
    for row in range(4):
        torch.testing.assert_close(network(images[row : row + 1])[0], together[row], atol=1e-5, rtol=1e-4)


@both_heads
def test_the_ccm_averages_large_pictures_down(head: CollocationHead) -> None:
    network, images = of_head(head), outfits(2, 64)
    averaged = images.reshape(2, 4, 3, 32, 2, 32, 2).mean(dim=(4, 6))
    torch.testing.assert_close(network(images), network(averaged), atol=1e-5, rtol=1e-4)


@both_heads
def test_a_blank_item_is_missing_and_a_level_below_white_is_not(head: CollocationHead) -> None:
    network, images = of_head(head), outfits(2, 32)
    whole, present = network.embed(images)
    assert present.tolist() == [[1.0] * 4] * 2
    images[0, 2] = 1.0
    embeddings, present = network.embed(images)
    assert present.tolist() == [[1.0, 1.0, 0.0, 1.0], [1.0] * 4]
    assert torch.equal(embeddings[0, 2], network.missing)
    others = torch.ones(2, 4, dtype=torch.bool)
    others[0, 2] = False
    torch.testing.assert_close(embeddings[others], whole[others], atol=1e-5, rtol=1e-4)
    images[0, 2, 1, 5, 7] = 254 / 127.5 - 1
    assert network.embed(images)[1].tolist() == [[1.0] * 4] * 2
    images[0, 2] = 1.0
    assert network.half().embed(images.half())[1].tolist() == [[1.0, 1.0, 0.0, 1.0], [1.0] * 4]


@both_heads
def test_every_choice_of_missing_items_has_a_finite_logit(head: CollocationHead) -> None:
    network = of_head(head)
    images = outfits(1, 32).repeat(16, 1, 1, 1, 1)
    for row, missing in enumerate(itertools.product((False, True), repeat=4)):
        images[row, list(missing)] = 1.0
    logits = network(images)
    assert torch.isfinite(logits).all()
    assert len(logits.unique()) > 8
    empty = network.head.bias.item() if isinstance(network, BinaryCollocation) else 0.0
    assert logits[-1].item() == pytest.approx(empty, abs=1e-6)


def test_the_binary_head_averages_the_contexts_of_the_items_that_are_there() -> None:
    network = of_head("binary")
    assert isinstance(network, BinaryCollocation)
    draw = torch.Generator().manual_seed(0)
    context = torch.randn(3, 4, 32, generator=draw)
    present = torch.tensor([[1.0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]])
    found = network.judge(torch.zeros(3, 4, 16), context, present)
    weight, bias = network.head.weight[0].double().numpy(), network.head.bias.item()
    for row in range(3):
        kept = context[row][present[row] == 1].double().numpy()
        assert found[row].item() == pytest.approx(kept.mean(0) @ weight + bias, abs=1e-5)


def test_the_next_item_head_is_the_mean_log_likelihood_ratio_to_its_bank() -> None:
    """Item by item, onward and backward: the softmax of the item among the bank's of its place, over a guess."""
    network = of_head("next-item")
    assert isinstance(network, NextItemCollocation)
    draw = torch.Generator().manual_seed(0)
    embeddings, context = torch.randn(2, 4, 16, generator=draw), torch.randn(2, 4, 32, generator=draw)
    present = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 1]])
    found = network.judge(embeddings, context, present)
    bank, items, states = (x.double().numpy() for x in (network.bank, embeddings, context))
    onward, back = (
        (layer.weight.double().numpy(), layer.bias.double().numpy()) for layer in (network.onward, network.back)
    )
    steps = [(place, place + 1, 0, onward) for place in range(3)] + [
        (place, place - 1, 16, back) for place in (1, 2, 3)
    ]
    for row in range(2):
        ratios = []
        for read, goal, half, (weight, bias) in steps:
            if not present[row, goal]:
                continue
            expected = weight @ states[row, read, half : half + 16] + bias
            scores = np.append(bank[:, goal] @ expected, items[row, goal] @ expected) / 4  # the root of 16
            ratios.append(scores[-1] - np.log(np.exp(scores).mean()))
        assert found[row].item() == pytest.approx(np.mean(ratios), abs=1e-5)


def test_a_context_that_tells_nothing_gives_zero() -> None:
    network = of_head("next-item")
    assert isinstance(network, NextItemCollocation)
    for layer in (network.onward, network.back):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(network(outfits(2, 32)), torch.zeros(2), atol=1e-5, rtol=0)


def test_pairs_are_the_next_item_and_the_one_before() -> None:
    embeddings = torch.arange(4.0).reshape(1, 4, 1)
    assert pairs(embeddings)[0, :, :, 0].tolist() == [[1, 2, 3], [0, 1, 2]]


@both_heads
def test_every_weight_of_the_ccm_learns(head: CollocationHead) -> None:
    """With an item missing, whose embedding is learned as well."""
    network = of_head(head).requires_grad_()
    images: Tensor = outfits(4, 32)
    images[0, 1] = 1.0
    assert idle(network, network(images).square().sum()) == []
