"""Every experiment at the smallest size there is: what it trains, what it says, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from outfitgan.cli_study import EXPERIMENTS
from outfitgan.config import DataConfig
from outfitgan.data.examples import write_examples
from outfitgan.errors import ConfigError, RunError
from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.experiments import correspondence, dataset_independence, sam_ablation, sequence_order
from outfitgan.experiments.arms import Arm, Settings, compare, train_arm
from outfitgan.experiments.report import hull
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.training.runs import Run

Make = Callable[..., Settings]
ARMS = {
    "sam-ablation": ["SAM", "concatenation"],
    "collocation-weight": ["CCM 0", "CCM 1", "CCM 10"],
    "baselines": ["OutfitGAN", "pix2pix", "pix2pixHD"],
    "shared-generator": ["separate", "shared"],
    "hires": ["direct", "one more stage"],
    "failure-signs": ["default", "no SAM", "L1 alone", "adversarial dominates"],
}


def said(settings: Settings) -> str:
    return settings.console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def report(settings: Settings) -> dict[str, Any]:
    return json.loads((settings.output / "report.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ARMS)
def test_an_experiment_ends_in_a_table_a_plot_and_a_json(make: Make, tmp_path: Path, name: str) -> None:
    settings = make(tmp_path)
    import_module(f"outfitgan.experiments.{name.replace('-', '_')}").run(settings)
    content = report(settings)
    assert content["experiment"] == name
    assert [outcome["arm"] for outcome in content["outcomes"]] == ARMS[name]
    assert content["facts"]["steps"] == 2
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for arm in ARMS[name]:
        assert f"| {arm} |" in markdown
        assert arm in said(settings)
    for note in content["notes"]:
        assert note in markdown
    with Image.open(tmp_path / "report.png") as plot:
        assert min(plot.size) > 200
    configs = [Run.open(tmp_path / "runs" / f"{arm.replace(' ', '-')}-0").config for arm in ARMS[name]]
    assert len({repr(config) for config in configs}) == len(configs)  # the arms do differ
    assert len({repr((config.data, config.model.collocation)) for config in configs}) == 1  # in that alone


def test_every_listed_experiment_is_there() -> None:
    for name in EXPERIMENTS:
        assert callable(import_module(f"outfitgan.experiments.{name.replace('-', '_')}").run)


def test_arms_share_their_teacher_and_measure_once(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path, seeds=2)
    arms = [Arm("one"), Arm("two", {"losses.l1": 7.0})]
    outcomes = compare(arms, settings)
    assert [(outcome.arm, outcome.seed) for outcome in outcomes] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    runs = {path.name: Run.open(path) for path in (tmp_path / "runs").iterdir()}
    for seed in (0, 1):
        one, two = runs[f"one-{seed}"].load("collocation"), runs[f"two-{seed}"].load("collocation")
        assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
        assert runs[f"two-{seed}"].step("scorer") == 0
    assert runs["two-0"].config.losses.l1 == 7.0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert compare(arms, settings) == outcomes  # from what was kept
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_a_measure_of_other_weights_is_taken_again(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    first = compare([Arm("one")], settings)
    assert compare([Arm("one")], replace(settings, count=2)) != first


def test_other_settings_need_another_folder(make: Make, tmp_path: Path) -> None:
    train_arm(Arm("one"), 0, make(tmp_path), None)
    with pytest.raises(RunError, match="was trained with other settings; choose another --output"):
        train_arm(Arm("one"), 0, make(tmp_path, training__steps=3), None)


def test_a_ccm_of_other_outfits_is_not_taken_over(make: Make, tmp_path: Path) -> None:
    teacher = train_arm(Arm("one"), 0, make(tmp_path), None)
    other = train_arm(Arm("other"), 0, make(tmp_path, data__count=7), teacher)
    assert any(not torch.equal(t, other.load("collocation")[n]) for n, t in teacher.load("collocation").items())


def test_a_hull_is_as_wide_as_its_seeds() -> None:
    joined = hull([Interval(1.0, 0.5, 1.5, 10), Interval(2.0, 1.8, 2.4, 10)])
    assert joined == Interval(1.5, 0.5, 2.4, 20)
    assert joined.overlaps(Interval(2.5, 2.3, 2.7, 10))
    assert not joined.overlaps(Interval(2.5, 2.41, 2.7, 10))


def test_sequence_order_ranks_all_orders(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    sequence_order.run(settings)
    content = report(settings)
    names = {outcome["arm"] for outcome in content["outcomes"]}
    assert names == {" ".join(order) for order in permutations(COLLOCATION_ORDER)}
    assert "The paper's order is number" in content["notes"][0]
    values = [line for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines() if "upper" in line]
    aucs = [float(line.split("|")[2].split("[")[0]) for line in values if line.startswith("| ")]
    assert aucs == sorted(aucs, reverse=True)


def test_dataset_independence_judges_each_on_each(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    other = tmp_path / "outfits"
    for split, count in (("train", 6), ("test", 4)):
        write_examples(replace(settings.config.data, count=count), 32, split, 5, count, other / split)
    sources = (settings.config.data, replace(settings.config.data, name="folder", root=str(other)))
    dataset_independence.run(settings, sources)
    arms = [outcome["arm"] for outcome in report(settings)["outcomes"]]
    assert sorted(arms) == ["folder on folder", "folder on synthetic", "synthetic on folder", "synthetic on synthetic"]
    with pytest.raises(ConfigError, match="needs two data sets"):
        dataset_independence.run(settings, (DataConfig(),))


def test_correspondence_draws_where_a_run_looked(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    trained = train_arm(Arm("one"), 0, settings, None)
    correspondence.run(settings, trained)
    figures = report(settings)
    assert set(figures) == {"bag", "lower", "shoes"}
    for values in figures.values():
        assert set(values) == {"weight of the best match", "matches on the garment", "garment that is looked at"}
        assert all(0 <= value <= 1 for value in values.values())
    assert len(list(tmp_path.glob("correspondence-*.png"))) == 3
    blind = train_arm(Arm("blind", {"model.generator.architecture": "pix2pix"}), 0, settings, None)
    with pytest.raises(RunError, match="has no SAM"):
        correspondence.run(settings, blind)


def test_the_notes_say_what_the_intervals_say(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    sam_ablation.run(settings)
    for note in report(settings)["notes"]:
        assert note.endswith(("the intervals overlap.", "the intervals do not overlap."))
