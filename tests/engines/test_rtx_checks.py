"""A plan's layers against its graph: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_rtx_layers import ATTENTION, CONVOLUTION, LAYERS, NORM, half

from engines.tensorrt_rtx.graph_facts import Correlation, GraphFacts
from engines.tensorrt_rtx.layer_checks import check_fused, check_types, fused_kernels, int8_convolutions
from engines.tensorrt_rtx.layer_table import Layer, LayerTensor
from outfitgan.errors import EngineError

CORRELATION = Correlation(queries=256, keys=256, features=15, values=16)
FACTS = GraphFacts((CORRELATION,), frozenset({"node_Conv_13"}), frozenset({"node_pow_5", "node_mean_4"}))


def changed(place: int, **fields: object) -> list[Layer]:
    return [replace(layer, **fields) if layer is LAYERS[place] else layer for layer in LAYERS]  # type: ignore[arg-type]


def test_a_plan_as_its_graph_is_accepted() -> None:
    check_fused(LAYERS, [CORRELATION], "It")
    check_types(LAYERS, FACTS, "fp16", "It")
    assert fused_kernels(LAYERS) == [ATTENTION]
    assert int8_convolutions(LAYERS, FACTS) == 0


MATRIX = replace(ATTENTION, name="__fc_1", outputs=(half("m", -1, 256, 256),))


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (
            [*LAYERS[:3], MATRIX],
            "It holds the correlation's matrix of 256 by 256 in memory (layer __fc_1): TensorRT did not fuse it; build "
            "for batches of 2 or more.",
        ),
        (
            LAYERS[:3],
            "It has 0 fused attention kernels for 1 correlations; export the graph again with this version, and report "
            "it if that does not help.",
        ),
        (
            [*LAYERS, ATTENTION],
            "It has 2 fused attention kernels for 1 correlations; export the graph again with this version, and report "
            "it if that does not help.",
        ),
        (
            changed(3, outputs=(LayerTensor("o_myl0", "Float", (-1, 256, 16)),)),
            "It correlates in FP32 (_gemm_mha_v2_myl0_58), which has no fused kernel; report it.",
        ),
        (
            changed(3, nodes=("node_attention",)),
            "It has 0 fused attention kernels for 1 correlations; export the graph again with this version, and report "
            "it if that does not help.",
        ),
    ],
)
def test_a_correlation_that_is_not_one_kernel_is_refused(layers: list[Layer], says: str) -> None:
    with pytest.raises(EngineError, match=f"^{re.escape(says)}$"):
        check_fused(layers, [CORRELATION], "It")


def test_a_matrix_of_other_sizes_is_told_too() -> None:
    """Transposed, with heads, and where there are more queries than keys; a feature map is none."""
    wide = Correlation(queries=768, keys=256, features=15, values=16)
    for shape in ((-1, 1, 768, 256), (-1, 256, 768)):
        with pytest.raises(EngineError, match="matrix of 768 by 256 in memory"):
            check_fused([replace(MATRIX, outputs=(half("m", *shape),))], [wide], "It")
    check_fused([ATTENTION, replace(MATRIX, outputs=(half("m", -1, 768, 16),))], [wide], "It")
    square = Correlation(queries=64, keys=64, features=64, values=32)
    check_fused([ATTENTION, replace(MATRIX, outputs=(half("m", -1, 64, 64),))], [square], "It")
    check_fused([ATTENTION, replace(MATRIX, nodes=("node_matmul",))], [CORRELATION], "It")  # of best_match


def typed(kind: str) -> Callable[[LayerTensor], LayerTensor]:
    return lambda given: replace(given, dtype=kind)


FLOAT = changed(1, inputs=tuple(map(typed("Float"), CONVOLUTION.inputs)))
INT8 = changed(
    1,
    inputs=tuple(map(typed("Int8"), CONVOLUTION.inputs)),
    constants=(LayerTensor("w_myl0", "Int8", (16, 16, 3, 3)), LayerTensor("scale", "Float", (1, 16, 1, 1))),
    outputs=tuple(map(typed("Float"), CONVOLUTION.outputs)),
)
ELSEWHERE = changed(2, nodes=("node_add_3", "node_mul_4", "node_mul_5", "node_mul_6"))


@pytest.mark.parametrize(
    ("layers", "precision", "says"),
    [
        (FLOAT, "fp16", "It multiplies node_Conv_13_myl0_12 in Float, not in fp16; TensorRT has built another"),
        (
            FLOAT,
            "int8-fp16",
            "It multiplies node_Conv_13_myl0_12 in Float, not in int8-fp16; TensorRT has built another",
        ),
        (LAYERS, "fp32", "It multiplies node_Conv_13_myl0_12 in Half, not in fp32; TensorRT has built another"),
        (INT8, "fp16", "It multiplies node_Conv_13_myl0_12 in Int8, not in fp16; TensorRT has built another"),
        (
            ELSEWHERE,
            "fp16",
            "It computes __myl_CastMulMean_myl0_15 in FP32, which the graph does not (node_add_3, node_mul_4, "
            "node_mul_5); export the graph again, and report it if that does not help.",
        ),
    ],
)
def test_another_precision_than_the_graphs_is_refused(layers: list[Layer], precision: str, says: str) -> None:
    with pytest.raises(EngineError, match=f"^{re.escape(says)}"):
        check_types(layers, FACTS, precision, "It")


@pytest.mark.parametrize(("kind", "name"), [("gemm", "node_Conv_13"), ("runtime_fusion", "__myl_CorrCastAdd_myl0_84")])
def test_a_convolution_by_another_name_is_checked(kind: str, name: str) -> None:
    layers = [replace(layer, kind=kind, name=name) if layer.kind == "correlation" else layer for layer in FLOAT]
    with pytest.raises(EngineError, match=f"^It multiplies {name} in Float, not in fp16"):
        check_types(layers, FACTS, "fp16", "It")


def test_int8_convolutions_may_leave_their_sums_in_fp32() -> None:
    """And what reads those, which is no node of the graph in FP32; nothing else may be."""
    scaling = replace(NORM, inputs=tuple(map(typed("Float"), NORM.inputs)), outputs=(), nodes=("node_mul_4",))
    check_types([*INT8, scaling], FACTS, "int8-fp16", "It")
    assert int8_convolutions(INT8, FACTS) == 1
    other = replace(scaling, inputs=(LayerTensor("other", "Float", (-1, 16)),))
    with pytest.raises(EngineError, match="It computes __myl_CastMulMean_myl0_15 in FP32, which the graph does not"):
        check_types([*INT8, other], FACTS, "int8-fp16", "It")
