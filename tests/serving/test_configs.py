from __future__ import annotations

from pathlib import Path

import pytest

from export.graphs import run_contracts
from outfitgan.config import load_preset, override
from outfitgan.errors import ConfigError
from outfitgan.items import ItemKind, targets_of
from serving.configs import cpu_config, gpu_config, repository_configs
from serving.pbtxt import parse, render

COMMITTED = Path(__file__).parents[2] / "triton_repo"
DEFAULT = load_preset("small").model
CONFIGS = repository_configs(DEFAULT)


def test_committed_repository_has_exactly_the_generated_configs() -> None:
    found = {path.relative_to(COMMITTED).as_posix() for path in COMMITTED.rglob("*.pbtxt")}
    assert found == set(CONFIGS)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_committed_config_is_the_generated_one(name: str) -> None:
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert parse(committed) == parse(CONFIGS[name])
    assert committed == CONFIGS[name], "run `python -m serving.configs`"


def test_every_model_has_a_version_folder() -> None:
    for folder in {name.split("/")[0] for name in CONFIGS}:
        files = {path.name for path in (COMMITTED / folder / "1").iterdir() if path.is_file()}
        python = parse(CONFIGS[f"{folder}/config.pbtxt"]).backend == "python"
        assert files == ({"model.py"} if python else {".gitkeep"})


@pytest.mark.parametrize("contract", run_contracts(DEFAULT).values(), ids=lambda contract: contract.name)
def test_rendering_loses_nothing(contract) -> None:  # type: ignore[no-untyped-def]
    for config in (gpu_config(contract), cpu_config(contract, "onnxruntime", 3)):
        assert parse(render(config, "a test")) == config


def test_a_batch_size_of_zero_is_written() -> None:
    config = gpu_config(run_contracts(DEFAULT)["collocation"])
    config.max_batch_size = 0
    assert "max_batch_size: 0\n" in render(config, "a test")


def test_engine_configs_follow_their_contracts() -> None:
    for contract in run_contracts(DEFAULT).values():
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
@pytest.mark.parametrize("ensemble", ["outfit", "outfit_encoded"])
def test_ensemble_has_the_shape_the_scheduler_can_answer_subsets_of(source: ItemKind, ensemble: str) -> None:
    model = override(load_preset("small"), {"model.source": str(source)}).model
    config = parse(repository_configs(model)[f"{ensemble}/config.pbtxt"])
    steps = list(config.ensemble_scheduling.step)
    inputs, outputs = {tensor.name for tensor in config.input}, [tensor.name for tensor in config.output]
    assert outputs == [*(kind.name for kind in targets_of(source)), "COMPATIBILITY"]
    assert set(steps[0].input_map.values()) == inputs == set(steps[0].input_map)
    for step in steps[1:]:
        assert not inputs & set(step.input_map.values())
    for name in outputs:
        (leaf,) = [step for step in steps if name in step.output_map.values()]
        assert len(leaf.output_map) == 1
        assert not [step for step in steps if name in step.input_map.values()]


def test_image_size_and_threads_reach_the_configs() -> None:
    model = override(load_preset("small"), {"model.image_size": 128}).model
    configs = repository_configs(model, "onnxruntime", threads=2)
    cpu = parse(configs["generator_bag/configs/cpu.pbtxt"])
    assert cpu.input[0].dims == [128, 128, 3]
    assert cpu.parameters["intra_op_thread_count"].string_value == "2"
    assert parse(configs["outfit/config.pbtxt"]).output[0].dims == [128, 128, 3]


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="onnxruntime or openvino engines, not 'tensorrt'"):
        repository_configs(DEFAULT, "tensorrt")
    with pytest.raises(ConfigError, match="not -1"):
        repository_configs(DEFAULT, threads=-1)
    with pytest.raises(ConfigError, match="not a model config"):
        parse("colour: 3")
