"""A run's whole evaluation: its numbers, its pictures, and a scorer that is trained once and leaves no export stale."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_cases import KINDS, TRAINED, small, table, values, write_outfits
from PIL import Image
from rich.console import Console

from outfitgan.config import Architecture, load_preset
from outfitgan.data.augmentation import augmentation_of
from outfitgan.data.outfit_store import open_store
from outfitgan.errors import ConfigError, DataError, RunError
from outfitgan.evaluation.classifier_measures import measure_classifier
from outfitgan.evaluation.evaluate import evaluate_run, evaluation_folder, write_pictures
from outfitgan.evaluation.judge import FCTS, Judge, score, seen_in_training
from outfitgan.evaluation.table import Metric
from outfitgan.items import COLLOCATION_ORDER, ItemKind
from outfitgan.networks.architectures import build_generator
from outfitgan.networks.collocation import NextItemCollocation
from outfitgan.run_folder import RunFolder
from outfitgan.training.batches import Batches
from outfitgan.training.collocation_trainer import CollocationTrainer
from outfitgan.training.device import accelerator_for
from outfitgan.training.runs import Run
from outfitgan.training.sample_grid import sample_grid
from outfitgan.training.scorer import load_scorer, scorer_config
from outfitgan.training.trained_networks import load_classifier, load_generator

PICTURES = {"outfits.png", "correspondence-0.png", "correspondence-1.png", "correspondence-2.png"}


@dataclass
class Evaluated:
    run: Run
    weights: str  # of the exported networks, before the evaluation
    output: Path
    metrics: list[Metric]
    printed: str


def evaluate(run: Run, output: Path, **options: int | str) -> Evaluated:
    weights, stream = RunFolder(run.folder).weights(), StringIO()
    metrics = evaluate_run(run, output, Console(file=stream, width=160), **options)
    return Evaluated(run, weights, output, metrics, stream.getvalue())


def facts(evaluated: Evaluated) -> dict[str, Any]:
    content = json.loads((evaluated.output / "metrics.json").read_text(encoding="utf-8"))
    return content["facts"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def evaluated(trained_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    run = Run.open(Path(shutil.copytree(trained_run.folder, folder / "run")))
    return evaluate(run, folder / "deep" / "output")


def test_an_evaluation_leaves_numbers_and_pictures(evaluated: Evaluated) -> None:
    assert {path.name for path in evaluated.output.iterdir()} == PICTURES | {"metrics.json"}
    written = json.loads((evaluated.output / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    assert written == json.loads(json.dumps([asdict(metric) for metric in evaluated.metrics]))
    assert facts(evaluated) == {
        "data": "synthetic",
        "root": "",
        "split": "test",
        "outfits": 5,
        "image_size": 32,
        "seed": TRAINED.training.seed,
        "steps": {"collocation": 3, "outfit": 2, "scorer": 3},
        "notes": [],
    }
    sizes = {}
    for path in evaluated.output.glob("*.png"):
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert sizes.pop("outfits.png") == (10 * 32, 5 * 32)
    assert set(sizes.values()) == {(14 + 7 * 254, 30 + 3 * 254)}


def test_every_metric_is_printed(evaluated: Evaluated) -> None:
    found = table(evaluated.metrics)
    assert {FCTS, "AUC, CCM", "AUC, scorer", "fill in the blank, CCM", "fill in the blank, scorer"} < set(found)
    assert f"{evaluated.run.folder}: synthetic, test split" in evaluated.printed.replace("\n", "")
    for metric in evaluated.metrics:
        assert metric.name in evaluated.printed
        assert metric.interval is None or str(metric.interval) in evaluated.printed
    assert "Generating 5 outfits of synthetic" in evaluated.printed


def test_what_is_measured_is_the_averaged_generator_the_ccm_and_the_scorer(evaluated: Evaluated) -> None:
    run = evaluated.run
    scorer = load_scorer(run)
    judge = Judge(TRAINED, scorer)
    made = judge.generate(load_generator(run))
    expected = sample_grid(
        judge.outfits(slice(None)), dict(zip(KINDS, made.unbind(dim=1), strict=True)), ItemKind.UPPER
    )
    with Image.open(evaluated.output / "outfits.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(expected))
    outfits = torch.cat([judge.outfits(slice(None)).image(ItemKind.UPPER).unsqueeze(1), made], dim=1)
    assert values(evaluated.metrics, FCTS) == {"all": pytest.approx(score(scorer, outfits).mean())}
    for name, classifier in (("CCM", load_classifier(run)), ("scorer", scorer)):
        again = measure_classifier(classifier, TRAINED, name)
        assert [metric for metric in evaluated.metrics if metric.name.endswith(f", {name}")] == again


def test_the_scorer_was_trained_to_its_end_with_a_seed_and_a_head_of_its_own(evaluated: Evaluated) -> None:
    run = evaluated.run
    assert run.step("scorer") == TRAINED.training.collocation_steps
    logged = [json.loads(line) for line in (run.folder / "stats.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in logged if line["stage"] == "scorer"] == [1, 2, 3]
    scorer = load_scorer(run)
    assert isinstance(scorer, NextItemCollocation)
    assert not scorer.training
    ccm = load_classifier(run).state_dict()
    shared = [name for name in ccm if name.startswith("features") and name.endswith("weight")]
    assert shared
    assert all(not torch.equal(scorer.state_dict()[name], ccm[name]) for name in shared if ccm[name].dim() > 1)


def test_a_scorers_config_differs_in_head_and_seed_alone() -> None:
    for seed in (0, (1 << 63) - 1):  # the largest seed has a neighbour too
        config = small(training__seed=seed, training__collocation_steps=7)
        changed = scorer_config(config)
        assert changed.training.seed != seed
        assert changed.model.collocation.head == "next-item"
        fields = {"training__seed": changed.training.seed, "model__collocation__head": "next-item"}
        assert changed == small(training__collocation_steps=7, **fields)


def test_an_evaluation_leaves_exports_current(evaluated: Evaluated) -> None:
    assert evaluated.weights
    assert RunFolder(evaluated.run.folder).weights() == evaluated.weights


def test_a_second_evaluation_trains_nothing_and_finds_the_same(evaluated: Evaluated, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in evaluated.run.folder.rglob("*") if path.is_file()}
    again = evaluate(evaluated.run, tmp_path / "again")
    assert {path: path.read_bytes() for path in evaluated.run.folder.rglob("*") if path.is_file()} == before
    assert again.metrics == evaluated.metrics
    for name in PICTURES:
        assert (again.output / name).read_bytes() == (evaluated.output / name).read_bytes()


def test_a_scorer_reads_the_runs_training_outfits_in_an_order_of_its_own_and_only_once(tmp_path: Path) -> None:
    cache, steps = tmp_path / "cache", 3
    config = small(data__cache=str(cache), training__collocation_steps=steps, training__tensorboard=False)
    run = Run.create(tmp_path / "run", config)
    found = load_scorer(run).state_dict()

    store = open_store(config.data, config.model.collocation.input_size, "train", config.training.seed)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1  # the one just opened
    own = scorer_config(config)
    batches = Batches(store, own.training.seed, augmentation_of(config.data.augmentation))
    trainer = CollocationTrainer(own, batches, accelerator_for(config.training))
    for step in range(1, steps + 1):
        trainer.step(step)
    expected = trainer.classifier.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

    shutil.rmtree(cache)
    again = load_scorer(run).state_dict()
    assert all(torch.equal(again[name], found[name]) for name in found)
    assert not cache.exists()  # a trained one needs no data


def test_an_interrupted_scorer_is_trained_on(own_run: Run, evaluated: Evaluated) -> None:
    """Stopped after its second step it becomes what it is in one go."""
    whole = {name: tensor.clone() for name, tensor in load_scorer(evaluated.run).state_dict().items()}
    short = Run(own_run.folder, small(training__collocation_steps=2, training__steps=2, training__tensorboard=False))
    load_scorer(short)
    assert own_run.step("scorer") == 2
    found = load_scorer(own_run).state_dict()
    assert own_run.step("scorer") == 3
    assert [name for name in whole if not torch.equal(whole[name], found[name])] == []


def test_fewer_outfits_have_fewer_pictures(evaluated: Evaluated, tmp_path: Path) -> None:
    found = evaluate(evaluated.run, tmp_path, count=2)
    assert {path.name for path in tmp_path.iterdir()} == PICTURES - {"correspondence-2.png"} | {"metrics.json"}
    assert {i.n for row in table(found.metrics).values() for i in row.values() if i is not None} == {2}
    assert facts(found)["outfits"] == 2
    with Image.open(tmp_path / "outfits.png") as image:
        assert image.size == (10 * 32, 2 * 32)


def test_another_data_set_is_measured_with_the_runs_networks(evaluated: Evaluated, tmp_path: Path) -> None:
    write_outfits(tmp_path / "own")
    found = evaluate(evaluated.run, tmp_path / "output", data="folder", root=str(tmp_path / "own"))
    assert "Generating 3 outfits of folder" in found.printed
    assert {i.n for row in table(found.metrics).values() for i in row.values() if i is not None} == {3}
    assert (facts(found)["data"], facts(found)["root"]) == ("folder", str(tmp_path / "own"))
    assert RunFolder(evaluated.run.folder).weights() == evaluated.weights
    with pytest.raises(ConfigError, match=r"data\.root is empty: set it to the folder"):
        evaluate(evaluated.run, tmp_path / "output", data="polyvore")
    with pytest.raises(DataError):
        evaluate(evaluated.run, tmp_path / "output", data="folder", root=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("data", "root", "name"),
    [
        (None, None, "evaluation"),
        ("synthetic", None, "evaluation"),
        ("folder", "somewhere", "evaluation-folder"),
        (None, "elsewhere", "evaluation-synthetic"),
    ],
)
def test_an_evaluation_on_other_outfits_is_kept_apart(
    tmp_path: Path, data: str | None, root: str | None, name: str
) -> None:
    assert evaluation_folder(Run(tmp_path, TRAINED), data, root) == tmp_path / name


def test_an_evaluation_says_which_of_its_networks_have_taught(own_run: Run, tmp_path: Path) -> None:
    """The run's CCM has eyes of its own; its config says that the generators had not."""
    taught = {"losses__perceptual": 2.0, "losses__perceptual_network": "efficientnet-lite0"}
    config = small(training__collocation_steps=3, training__steps=2, **taught)
    found = evaluate(Run(own_run.folder, config), tmp_path / "output", count=2)
    (note,) = seen_in_training(config)
    assert facts(found)["notes"] == [note]
    assert f"note: {note}" in found.printed.replace("\n", " ")


def test_only_a_network_that_taught_is_named() -> None:
    assert seen_in_training(small()) == []
    assert seen_in_training(small(model__collocation__features="efficientnet-lite0", losses__collocation=0)) == []
    assert seen_in_training(small(losses__perceptual_network="efficientnet-lite0", losses__perceptual=0)) == []
    (lpips,) = seen_in_training(small(losses__perceptual=1))
    assert lpips.startswith("LPIPS sees through vgg16, as the perceptual loss does")
    loss, eyes = seen_in_training(load_preset("photos"))
    assert loss.startswith("Distance, FID and KID see through efficientnet-lite0, as the perceptual loss does")
    assert eyes.startswith("FCTS's scorer sees through the same frozen efficientnet-lite0 as the CCM")
    assert eyes.endswith("Distance, FID and KID see through it as well.")


@pytest.mark.parametrize("stage", ["outfit", "collocation"])
def test_a_run_that_is_not_trained_says_so_before_its_scorer_is(own_run: Run, tmp_path: Path, stage: str) -> None:
    path = own_run.folder / "checkpoints" / "checkpoints.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    del index[stage]
    path.write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(RunError, match=f"has no {stage} checkpoint yet; finish it with 'outfitgan train --resume'"):
        evaluate(own_run, tmp_path / "output")
    assert own_run.step("scorer") == 0
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("architecture", "sheets"), [("outfitgan", 3), ("shared", 3), ("hires", 3), ("pix2pix", 0), ("pix2pixhd", 0)]
)
def test_every_architecture_with_a_sam_shows_where_it_looked(
    tmp_path: Path, judge: Judge, architecture: Architecture, sheets: int
) -> None:
    config = small(model__generator__architecture=architecture)
    torch.manual_seed(0)
    generator = build_generator(config.model).eval()
    made = judge.generate(generator)
    write_pictures(judge, generator, made, config, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "outfits.png",
        *(f"correspondence-{number}.png" for number in range(sheets)),
    }


def test_each_sheet_shows_its_own_outfit(evaluated: Evaluated, judge: Judge) -> None:
    """The source and the items at the left, scaled up: their means stay."""
    made = judge.generate(load_generator(evaluated.run))
    for number in range(3):
        with Image.open(evaluated.output / f"correspondence-{number}.png") as sheet:
            for row, _ in enumerate(KINDS):
                top = 30 + row * 254
                shown = [np.asarray(sheet.crop((x, top, x + 240, top + 240)), float) for x in (14, 268)]
                expected = [
                    judge.outfits(slice(None)).images[number, COLLOCATION_ORDER.index(ItemKind.UPPER)],
                    made[number, row],
                ]
                for tile, image in zip(shown, expected, strict=True):
                    mean = (image.mean(dim=(1, 2)).numpy() + 1) * 127.5
                    assert np.abs(tile.mean(axis=(0, 1)) - mean).max() < 12  # arrows take a little
