from __future__ import annotations

from pathlib import Path

import pytest

from outfitgan.config import load_preset, override
from outfitgan.errors import ConfigError
from outfitgan.items import ItemKind, targets_of
from outfitgan.model_graphs import mask_contracts, run_contracts
from serving.repository.configs import cpu_config, repository_configs
from serving.repository.gpu_config import gpu_config
from serving.repository.pbtxt import parse, render

COMMITTED = Path(__file__).parents[2] / "triton_repo"
DEFAULT = load_preset("small").model
CONTRACTS = run_contracts(DEFAULT) | mask_contracts(DEFAULT)
CONFIGS = repository_configs(DEFAULT, CONTRACTS)


def test_committed_repository_has_exactly_the_generated_configs() -> None:
    found = {path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*.pbtxt")}
    assert found == set(CONFIGS)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_committed_config_is_the_generated_one(name: str) -> None:
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert parse(committed) == parse(CONFIGS[name])
    assert committed == CONFIGS[name], "run `python -m serving.repository.configs`"


def test_every_model_has_a_version_folder() -> None:
    for folder in {name.split("/")[0] for name in CONFIGS}:
        files = {path.name for path in (COMMITTED / folder / "1").iterdir() if path.is_file()}
        python = parse(CONFIGS[f"{folder}/config.pbtxt"]).backend == "python"
        assert files == ({"model.py"} if python else {".gitkeep"})


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.name)
def test_rendering_loses_nothing(contract) -> None:  # type: ignore[no-untyped-def]
    for config in (gpu_config(contract), cpu_config(contract, "onnxruntime", 3)):
        assert parse(render(config, "a test")) == config


def test_a_batch_size_of_zero_is_written() -> None:
    config = gpu_config(run_contracts(DEFAULT)["collocation"])
    config.max_batch_size = 0
    assert "max_batch_size: 0\n" in render(config, "a test")


def test_engine_configs_follow_their_contracts() -> None:
    for contract in CONTRACTS.values():
        production = parse(CONFIGS[f"{contract.name}/config.pbtxt"])
        cpu = parse(CONFIGS[f"{contract.name}/configs/cpu.pbtxt"])
        assert (production.backend, production.default_model_filename) == ("tensorrt", "model.plan")
        assert (cpu.backend, cpu.default_model_filename) == ("openvino", "model.xml")
        for config in (production, cpu):
            assert [(t.name, tuple(t.dims)) for t in config.input] == [(s.name, s.shape) for s in contract.inputs]
            assert [(t.name, tuple(t.dims)) for t in config.output] == [(s.name, s.shape) for s in contract.outputs]
            assert config.max_batch_size == contract.max_batch
            assert config.HasField("dynamic_batching")


@pytest.mark.parametrize("source", ItemKind)
@pytest.mark.parametrize("architecture", ["outfitgan", "shared", "pix2pix"])
@pytest.mark.parametrize("ensemble", ["outfit", "outfit_encoded", "outfit_from_source"])
def test_ensemble_has_the_shape_the_scheduler_can_answer_subsets_of(
    source: ItemKind, architecture: str, ensemble: str
) -> None:
    changes = {"model.source": str(source), "model.generator.architecture": architecture}
    model = override(load_preset("small"), changes).model
    configs = repository_configs(model, run_contracts(model) | mask_contracts(model))
    config = parse(configs[f"{ensemble}/config.pbtxt"])
    steps = list(config.ensemble_scheduling.step)
    inputs, outputs = {tensor.name for tensor in config.input}, [tensor.name for tensor in config.output]
    masks = [f"MASK_{kind.name}" for kind in targets_of(source)] if ensemble == "outfit_from_source" else []
    assert outputs == [*(kind.name for kind in targets_of(source)), *masks, "COMPATIBILITY"]
    assert set(steps[0].input_map.values()) == inputs == set(steps[0].input_map)
    for step in steps[1:]:
        assert not inputs & set(step.input_map.values())
    for name in outputs:
        (leaf,) = [step for step in steps if name in step.output_map.values()]
        assert len(leaf.output_map) == 1
        assert not [step for step in steps if name in step.input_map.values()]


@pytest.mark.parametrize("architecture", ["outfitgan", "shared", "pix2pix"])
def test_every_step_feeds_a_model_that_is_there_what_it_takes(architecture: str) -> None:
    model = override(load_preset("small"), {"model.generator.architecture": architecture}).model
    texts = repository_configs(model, run_contracts(model) | mask_contracts(model))
    configs = {name.split("/")[0]: parse(text) for name, text in texts.items() if name.endswith("/config.pbtxt")}
    for config in configs.values():
        made = {tensor.name: tensor for tensor in config.input}
        for step in config.ensemble_scheduling.step:
            called = configs[step.model_name]
            assert set(step.input_map) == {tensor.name for tensor in called.input}
            for tensor in called.input:
                found = made[step.input_map[tensor.name]]  # which an earlier step gave
                assert (found.data_type, found.dims) == (tensor.data_type, tensor.dims)
            assert set(step.output_map) <= {tensor.name for tensor in called.output}
            made |= {step.output_map[t.name]: t for t in called.output if t.name in step.output_map}
        for tensor in config.output if config.ensemble_scheduling.step else []:
            assert (made[tensor.name].data_type, made[tensor.name].dims) == (tensor.data_type, tensor.dims)


def test_models_are_those_of_the_run() -> None:
    folders = {name.split("/")[0] for name in CONFIGS}
    plain = {name.split("/")[0] for name in repository_configs(DEFAULT, run_contracts(DEFAULT))}
    besides = {"outfit_from_source", "decode_source", "clean", "encode_mask", *mask_contracts(DEFAULT)}
    assert folders - plain == besides
    shared = load_preset("shared").model
    found = {name.split("/")[0] for name in repository_configs(shared, run_contracts(shared))}
    assert found == plain - {f"generator_{kind}" for kind in DEFAULT.targets} | {"generator_outfit"}
    baseline = override(load_preset("small"), {"model.generator.architecture": "pix2pix"}).model
    found = {name.split("/")[0] for name in repository_configs(baseline, run_contracts(baseline))}
    assert found == plain - {f"alignment_{kind}" for kind in DEFAULT.targets}


def test_image_size_and_threads_reach_the_configs() -> None:
    model = override(load_preset("small"), {"model.image_size": 128}).model
    configs = repository_configs(model, run_contracts(model), "onnxruntime", threads=2)
    cpu = parse(configs["generator_bag/configs/cpu.pbtxt"])
    assert cpu.input[0].dims == [128, 128, 3]
    assert cpu.parameters["intra_op_thread_count"].string_value == "2"
    assert parse(configs["outfit/config.pbtxt"]).output[0].dims == [128, 128, 3]


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="onnxruntime or openvino engines, not 'tensorrt'"):
        repository_configs(DEFAULT, CONTRACTS, "tensorrt")
    with pytest.raises(ConfigError, match="not -1"):
        repository_configs(DEFAULT, CONTRACTS, threads=-1)
    with pytest.raises(ConfigError, match="not a model config"):
        parse("colour: 3")
