"""Every experiment at the smallest size there is: what it trains, what it says, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from cli.study_verbs import EXPERIMENTS
from outfitgan.config import DataConfig, override
from outfitgan.data.examples import write_examples
from outfitgan.errors import ConfigError, RunError
from outfitgan.evaluation.metrics.bootstrap import Interval
from outfitgan.experiments import (
    collocation_weight,
    correspondence,
    dataset_independence,
    failure_signs,
    sequence_order,
    shared_generator,
)
from outfitgan.experiments.arms import Arm, Settings, compare, recall, train_arm
from outfitgan.experiments.experiment_report import Row, apart, hull, write_report
from outfitgan.items import COLLOCATION_ORDER
from outfitgan.training.runs import Run

Make = Callable[..., Settings]
ARMS = {
    "sam-ablation": ["SAM", "concatenation"],
    "collocation-weight": [f"CCM {weight}{other}" for other in ("", ", perceptual 2") for weight in (0, 1, 10)],
    "baselines": ["OutfitGAN", "pix2pix", "pix2pixHD"],
    "shared-generator": ["separate", "shared", "shared, coarser SAM"],
    "hires": ["direct", "one more stage"],
    "failure-signs": ["default", "no SAM", "L1 alone", "adversarial dominates"],
}
LOOKS = ("weight of the best match", "matches on the garment", "garment that is looked at")


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


def test_the_ccms_weight_is_swept_against_a_perceptual_loss_that_needs_no_file(make: Make, tmp_path: Path) -> None:
    config = make(tmp_path).config
    made = [override(config, arm.changes) for arm in collocation_weight._arms(config)]
    assert [(c.losses.collocation, c.losses.perceptual) for c in made] == list(product((0, 1, 10), (0,))) + list(
        product((0, 1, 10), (2,))
    )
    assert {c.losses.perceptual_network for c in made[3:]} == {"efficientnet-lite0"}
    assert replace(made[1], losses=config.losses) == config  # and nothing else: earlier runs of it are taken over
    assert made[1].losses.perceptual_network == config.losses.perceptual_network
    own = override(config, {"losses.perceptual": 3.0, "losses.perceptual_network": "vgg16"})
    arms = collocation_weight._arms(own)
    assert [arm.name for arm in arms[3:]] == ["CCM 0, perceptual 3", "CCM 1, perceptual 3", "CCM 10, perceptual 3"]
    assert override(own, arms[4].changes).losses == replace(own.losses, collocation=1.0)


@pytest.mark.parametrize(("depth", "deeper"), [(2, 3), (4, 4)])
def test_the_coarser_sam_halves_the_grid_alone_where_the_encoder_is_deep_enough(
    make: Make, tmp_path: Path, depth: int, deeper: int
) -> None:
    config = make(tmp_path, model__generator__downsamples=depth).config
    separate, shared, coarser = (override(config, arm.changes) for arm in shared_generator._arms(config))
    assert separate == config
    assert shared == override(config, {"model.generator.architecture": "shared"})
    assert coarser.model.alignment_grid * 2 == shared.model.alignment_grid
    assert coarser.model.generator.downsamples == deeper
    same = {"model.generator.alignment.downsamples": 2, "model.generator.downsamples": depth}
    assert override(coarser, same) == shared
    assert ("deeper" in shared_generator._differences([shared.model, coarser.model])) == (depth != deeper)


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
    assert "parameters" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    again = make(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    sequence_order.run(again)  # from what was kept
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()} == before
    assert report(again) == content
    with pytest.raises(RunError, match="was trained with other settings; choose another --output"):
        sequence_order.run(make(tmp_path, training__collocation_steps=3))


def test_an_order_is_measured_again_over_other_outfits_and_of_other_weights(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path, count=3)
    kept = sequence_order._outcome(COLLOCATION_ORDER, 0, settings)
    assert {metric.interval.n for metric in kept.metrics if metric.interval} == {3}
    assert (kept.parameters, kept.step_seconds) == (None, None)
    other = sequence_order._outcome(COLLOCATION_ORDER, 0, replace(settings, count=4))
    assert {metric.interval.n for metric in other.metrics if metric.interval} == {4}
    (folder,), (path,) = (tmp_path / "runs").iterdir(), (tmp_path / "measured").iterdir()
    run = Run.open(folder)
    assert recall(run, replace(settings, count=4)) == other
    content = json.loads(path.read_text(encoding="utf-8"))
    content["outcome"]["seconds"] = 1.0  # as another version measured it
    path.write_text(json.dumps(content), encoding="utf-8")
    assert recall(run, replace(settings, count=4)) is None
    assert sequence_order._outcome(COLLOCATION_ORDER, 0, replace(settings, count=4)) == other
    run.save(
        "collocation", 2, {name: -t if t.is_floating_point() else t for name, t in run.load("collocation").items()}
    )
    assert recall(run, replace(settings, count=4)) is None


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
    content = report(settings)
    assert (content["facts"]["seeds"], content["facts"]["measured_outfits"]) == ([0], 3)
    assert [outcome["arm"] for outcome in content["outcomes"]] == ["bag", "lower", "shoes"]
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for outcome in content["outcomes"]:
        assert [metric["name"] for metric in outcome["metrics"]] == list(LOOKS)
        assert all(0 <= metric["interval"]["value"] <= 1 for metric in outcome["metrics"])
        assert f"| {outcome['arm']} |" in markdown
    assert "parameters" not in markdown
    with Image.open(tmp_path / "report.png") as plot:
        assert min(plot.size) > 200
    assert len(list(tmp_path.glob("correspondence-*.png"))) == 3
    blind = train_arm(Arm("blind", {"model.generator.architecture": "pix2pix"}), 0, settings, None)
    with pytest.raises(RunError, match="has no SAM"):
        correspondence.run(settings, blind)


class Pointing:
    """A SAM whose every target cell is best matched by one cell of the source, with a weight for each outfit."""

    def __init__(self, cell: int, weights: list[float]) -> None:
        self.cell, self.weights = cell, torch.tensor(weights)

    def match(self, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best cell on a grid of 4x4."""
        index = torch.full((len(mask), 4, 4), self.cell)
        return source, index, self.weights.view(-1, 1, 1).expand(-1, 4, 4)


def test_a_silhouette_that_fills_no_cell_has_no_match_and_is_left_out() -> None:
    source, masks = torch.ones(3, 3, 32, 32), torch.zeros(3, 1, 32, 32)
    source[:, :, :16, :8] = -1  # a garment of two cells, 0 and 4
    masks[0, :, :8, :24] = 1  # three cells
    masks[1, :, :8, :8] = 1  # one
    masks[2, :, :2, :2] = 1  # none
    names = ["a", "b", "c"]
    found = correspondence._measure(Pointing(4, [0.2, 0.6, 0.9]).match, source, masks, names)
    assert [metric.name for metric in found] == list(LOOKS)
    assert [metric.interval.value for metric in found if metric.interval] == pytest.approx([1.2 / 4, 1.0, 0.5])
    assert {metric.interval.n for metric in found if metric.interval} == {2}
    beside = correspondence._measure(Pointing(5, [0.2, 0.6, 0.9]).match, source, masks, names)
    assert [metric.interval.value for metric in beside if metric.interval] == pytest.approx([1.2 / 4, 0.0, 0.0])
    masks[1] = 0
    for metric in correspondence._measure(Pointing(4, [0.2, 0.6, 0.9]).match, source, masks, names):
        assert metric.interval is None
        assert metric.note == "1 outfit(s) have a silhouette that fills a cell; it takes 2."


def row(arm: str, low: float, value: float, high: float, metric: str = "SSIM") -> Row:
    interval = Interval(value, low, high, 10)
    return Row(arm, {metric: interval}, {metric: [interval]}, None, None)


BEFORE = ("before", 0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (("after", 0.7, 0.8, 0.9), "the intervals do not overlap"),
        (("after", 0.1, 0.2, 0.3), "the intervals do not overlap"),
        (("after", 0.55, 0.7, 0.8), "the intervals overlap"),
        (("after", 0.2, 0.3, 0.45), "the intervals overlap"),
        (("after", 0.6, 0.7, 0.8), "the intervals overlap"),  # in one number
    ],
)
def test_a_note_says_what_the_intervals_say(after: tuple[str, float, float, float], verdict: str) -> None:
    one, other = row(*BEFORE), row(*after)
    assert apart("SSIM", one, other) == (
        f"SSIM: before {one.intervals['SSIM']}, after {other.intervals['SSIM']}; {verdict}."
    )


@pytest.mark.parametrize(
    ("after", "up", "down"),
    [
        (("after", 0.7, 0.8, 0.9), "seen", "not seen"),
        (("after", 0.1, 0.2, 0.3), "not seen", "seen"),
        (("after", 0.55, 0.7, 0.8), "within the intervals", "not seen"),
        (("after", 0.2, 0.3, 0.45), "not seen", "within the intervals"),
        (BEFORE, "not seen", "not seen"),
    ],
)
def test_a_sign_is_seen_beyond_the_intervals_and_in_its_direction_alone(
    after: tuple[str, float, float, float], up: str, down: str
) -> None:
    one, other = row(*BEFORE), row(*after)
    for direction, verdict in ((1, up), (-1, down)):
        assert failure_signs._sign("spots", "SSIM", one, other, direction) == (
            f"spots: {verdict}; SSIM {one.intervals['SSIM']} by default, {other.intervals['SSIM']} with {after[0]}."
        )


def test_an_arm_that_measured_no_time_has_a_blank_and_no_arm_no_column(make: Make, tmp_path: Path) -> None:
    settings = make(tmp_path)
    blank = row("blank", 0, 0.5, 1)
    timed = replace(row("timed", 0, 0.5, 1), parameters=1234, step_seconds=0.25)
    written = []
    for rows in ([timed, blank], [blank]):
        write_report("some", "Some", rows, [], [], settings)
        lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
        written.append([line for line in lines if line.startswith("|")])
    figure = "0.50 [0.00, 1.00]"
    assert written == [
        [
            "| arm | SSIM | parameters | s a step |",
            "|---|---|---|---|",
            f"| timed | {figure} | 1,234 | 0.25 |",
            f"| blank | {figure} |  |  |",
        ],
        ["| arm | SSIM |", "|---|---|", f"| blank | {figure} |"],
    ]
