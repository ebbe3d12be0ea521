"""How a server with GPUs is told to run plans: the configs, what the real server makes of them, and which plans fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc import model_config_pb2 as pb

from engines.manifest import EngineManifest, Profile
from outfitgan.config import ModelConfig, load_preset
from outfitgan.contracts import GraphContract
from outfitgan.errors import ConfigError, EngineError, ServerError
from outfitgan.model_graphs import contracts_of, mask_contracts, run_contracts
from serving.repository.assemble import assemble
from serving.repository.configs import repository_configs
from serving.repository.gpu_config import GpuServing, gpu_config
from serving.repository.pbtxt import parse, render
from serving.repository.plans import check_plans
from serving.server.triton_server import TritonServer

SMALL = load_preset("small").model
CONTRACTS = run_contracts(SMALL) | mask_contracts(SMALL)
BAG = CONTRACTS["generator_bag"]
SHAPES = {"SOURCE": [256, 256, 3], "MASK": [256, 256, 1]}
EACH_BATCH = {"profiles": [dataclasses.asdict(Profile(batch, batch, batch)) for batch in range(1, 9)]}


def plan(
    contract: GraphContract = BAG, name: str = "NVIDIA A10", capability: str = "8.6", **changes: object
) -> EngineManifest:
    """What is said of a plan that was built on a GPU."""
    fields = {
        "versions": {"tensorrt": "10.15.1.29"},
        "device": {"name": name, "compute_capability": capability, "driver": "13.0"},
        "graph_sha256": contract.name,
        "options": {"hardware": "this_gpu"},
        "runtime": "tensorrt",
        **changes,
    }
    files = {"model.plan": "0" * 64}
    return EngineManifest(
        contract=contract, precision="fp16", files=files, profile=Profile(1, 1, 8), parity={}, key="", **fields
    )  # type: ignore[arg-type]


def plans(name: str = "NVIDIA A10", capability: str = "8.6", **changes: object) -> dict[str, EngineManifest]:
    return {graph: plan(contract, name, capability, **changes) for graph, contract in CONTRACTS.items()}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_every_engine_is_warmed_up_at_the_batches_that_matter(contract: GraphContract) -> None:
    config = gpu_config(contract)
    assert [sample.batch_size for sample in config.model_warmup] == [1, contract.max_batch]
    for sample in config.model_warmup:
        assert {
            name: (given.data_type, list(given.dims), given.zero_data) for name, given in sample.inputs.items()
        } == {tensor.name: (tensor.data_type, list(tensor.dims), True) for tensor in config.input}


def test_a_graph_that_takes_one_at_a_time_is_warmed_up_once() -> None:
    config = gpu_config(dataclasses.replace(BAG, max_batch=1))
    assert [sample.batch_size for sample in config.model_warmup] == [1]


def test_nothing_is_recorded_unless_asked_for() -> None:
    plain, asked = gpu_config(BAG), gpu_config(BAG, GpuServing(instances=2, cuda_graphs=(8, 1, 8)))
    assert not plain.HasField("optimization")
    assert (plain.instance_group[0].count, asked.instance_group[0].count) == (1, 2)
    assert asked.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert asked.optimization.cuda.graphs
    specs = asked.optimization.cuda.graph_spec
    assert [spec.batch_size for spec in specs] == [1, 8]
    for spec in specs:
        assert {name: list(shape.dim) for name, shape in spec.input.items()} == SHAPES
    assert parse(render(asked, "a test")) == asked


@pytest.mark.parametrize(
    ("serving", "message"),
    [
        (GpuServing(instances=0), "has 1 instance or more on a GPU, not 0"),
        (GpuServing(cuda_graphs=(1, 9)), "generator_bag takes batches of 1 to 8: record none of 9"),
        (GpuServing(cuda_graphs=(0,)), "record none of 0"),
    ],
)
def test_what_no_server_can_do_is_refused(serving: GpuServing, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gpu_config(BAG, serving)


def test_a_plan_for_each_gpu_by_its_compute_capability() -> None:
    a10, orin = plan(), plan(name="Orin", capability="8.7")
    alone, both = gpu_config(BAG, plans=[a10]), gpu_config(BAG, plans=[a10, orin])
    assert not alone.cc_model_filenames
    assert dict(both.cc_model_filenames) == {"8.6": "model.plan", "8.7": "model.sm87.plan"}
    assert alone.default_model_filename == both.default_model_filename == "model.plan"
    assert both.parameters["tensorrt_version"].string_value == "10.15.1.29"
    assert both.parameters["built_on"].string_value == "NVIDIA A10, Orin"
    assert parse(render(both, "a test")) == both


def test_every_profile_is_listed_where_there_are_several() -> None:
    """Triton knows a plan's first profile alone unless the others are named, and pads no batch up to one that is."""
    each, one = gpu_config(BAG, plans=[plan(details=EACH_BATCH)]), gpu_config(BAG, plans=[plan()])
    assert list(each.instance_group[0].profile) == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert each.parameters["execution_context_allocation_strategy"].string_value == "ON_PROFILE_CHANGE"
    assert [sample.batch_size for sample in each.model_warmup] == [1, 8]
    assert parse(render(each, "a test")) == each
    for config in (one, gpu_config(BAG)):
        assert not config.instance_group[0].profile
        assert "execution_context_allocation_strategy" not in config.parameters


def test_the_plans_reach_the_configs_of_their_graphs() -> None:
    placed = {name: [manifest] for name, manifest in plans().items()}
    files = repository_configs(SMALL, CONTRACTS, gpu=GpuServing(instances=3), plans=placed)
    for name in CONTRACTS:
        config = parse(files[f"{name}/config.pbtxt"])
        assert config.instance_group[0].count == 3
        assert config.parameters["built_on"].string_value == "NVIDIA A10"
        assert not parse(files[f"{name}/configs/cpu.pbtxt"]).model_warmup
    assert not parse(files["outfit/config.pbtxt"]).parameters


def test_plans_of_one_run_for_several_gpus_go_together() -> None:
    check_plans([plans()], "")
    check_plans([plans(), plans("Orin", "8.7"), plans("NVIDIA H100", "9.0")], "10.15.1.29")
    anywhere = {"options": {"hardware": "ampere_plus"}}
    mixed = plans(**anywhere) | {"collocation": plan(CONTRACTS["collocation"], "NVIDIA L4", "8.9", **anywhere)}
    check_plans([mixed], "")  # where each was built says nothing of where it runs
    later = plans(options={"version_compatible": True})
    check_plans([later], "11.4.1.106")


@pytest.mark.parametrize(
    ("sets", "server", "message"),
    [
        (
            [plans(), plans("Orin", "8.7", runtime="openvino")],
            "",
            "generator_bag is for openvino: only engines for ten",
        ),
        (
            [plans() | {"collocation": plan(CONTRACTS["collocation"], "NVIDIA L4", "8.9")}],
            "",
            r"for one GPU, not several \(generator_bag: NVIDIA A10 8\.6; .*collocation: NVIDIA L4 8\.9",
        ),
        ([plans(), plans("NVIDIA A40", "8.6")], "", r"NVIDIA A10 and NVIDIA A40 both have 8\.6: take the plans of one"),
        ([plans(), {"generator_bag": plan(BAG, "Orin", "8.7")}], "", "alignment_bag, .* has no plan for every GPU"),
        ([plans(), plans("Orin", "8.7", graph_sha256="x")], "", "generator_bag for Orin is of another export than for"),
        (
            [plans(), plans("Orin", "8.7", versions={"tensorrt": "10.16.0.1"})],
            "",
            r"One server has one TensorRT, and these plans are of 10\.15\.1\.29, 10\.16\.0\.1: build them alike",
        ),
        (
            [plans(details=EACH_BATCH), plans("Orin", "8.7")],
            "",
            "plans of generator_bag for Orin and NVIDIA A10 have different profiles, and .*: build both with the same",
        ),
        ([plans(versions={})], "", "manifest of generator_bag does not say of which TensorRT and GPU it is: build it"),
        ([plans(device={"name": "NVIDIA A10"})], "", "does not say of which TensorRT and GPU"),
        ([plans()], "10.15.1.30", r"of TensorRT 10\.15\.1\.29, which 10\.15\.1\.30 does not run: build them with"),
        ([plans(options={"version_compatible": True})], "10.14.0.1", r"which 10\.14\.0\.1 does not run"),
    ],
)
def test_plans_that_do_not_go_together_are_refused(
    sets: list[dict[str, EngineManifest]], server: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        check_plans(sets, server)


def test_engines_of_a_cpu_are_not_served_as_a_gpus(
    model: ModelConfig, engines: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    cpu = engines["onnxruntime"]
    for options in ({"gpu": GpuServing(instances=2)}, {"also": [cpu]}):
        with pytest.raises(ConfigError, match="are for onnxruntime, on a CPU: leave the options of a GPU server out"):
            assemble(model, cpu, tmp_path / "repository", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.server
def test_the_real_server_takes_every_field(
    model: ModelConfig, engines: dict[str, dict[str, Path]], tmp_path: Path
) -> None:
    """All but the backend and the place it runs at are the GPU's: this server has neither TensorRT nor a GPU."""
    folders = engines["onnxruntime"]
    contract = contracts_of(model, folders)["generator_bag"]
    there = gpu_config(contract, GpuServing(cuda_graphs=(1,)), [plan(contract), plan(contract, "Orin", "8.7")])
    there.backend, there.default_model_filename = "onnxruntime", "model.onnx"
    there.instance_group[0].kind = pb.ModelInstanceGroup.KIND_CPU
    folder = tmp_path / "repository" / "generator_bag"
    shutil.copytree(folders["generator_bag"], folder / "1")
    (folder / "config.pbtxt").write_text(render(there, "a stand-in"))
    log = tmp_path / "server.log"
    with TritonServer(tmp_path / "repository", log=log) as server, InferenceServerClient(server.grpc_url) as client:
        loaded = client.get_model_config("generator_bag").config
        assert [sample.batch_size for sample in loaded.model_warmup] == [1, 8]
        assert loaded.optimization.cuda.graph_spec == there.optimization.cuda.graph_spec
        assert dict(loaded.cc_model_filenames) == dict(there.cc_model_filenames)
        feeds = []
        for spec in contract.inputs:
            feeds.append(InferInput(spec.name, [1, *spec.shape], "UINT8"))
            feeds[-1].set_data_from_numpy(np.zeros((1, *spec.shape), np.uint8))
        assert client.infer("generator_bag", feeds).as_numpy("IMAGE").shape == (1, 64, 64, 3)
    wrong, listed = pb.ModelConfig.FromString(there.SerializeToString()), there
    wrong.model_warmup[0].inputs["MASK"].dims[0] = 63
    listed.instance_group[0].profile.append("0")
    for refused, reason in ((wrong, "generator_bag"), (listed, "profile field which is only supported for TensorRT")):
        (folder / "config.pbtxt").write_text(render(refused, "a stand-in"))
        with pytest.raises(ServerError, match=reason), TritonServer(tmp_path / "repository", log=log):
            pass  # so warm-up samples and profiles are read, and not passed over
