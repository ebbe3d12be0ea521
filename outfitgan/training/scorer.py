"""The scorer of FCTS: a Bi-LSTM that takes no part in training the generators, apart from their CCM.

Ours: the paper does not say which model computes its Fashion Compatibility Test Score. This one reads the same training
outfits as the CCM with another seed, its own weights and the next-item objective (Han et al. 2017).
"""

from __future__ import annotations

from outfitgan.config import Config, override
from outfitgan.data.store_files import VARIANTS
from outfitgan.networks.collocation import CollocationClassifier, build_classifier
from outfitgan.training.collocation_trainer import CollocationTrainer
from outfitgan.training.device import accelerator_for
from outfitgan.training.loop import train_loop, training_progress
from outfitgan.training.runs import Run, unpack
from outfitgan.training.train import open_batches

STAGE = "scorer"
_SEED_OFFSET = 7919


def scorer_config(config: Config) -> Config:
    """Return a run's config as its scorer is trained."""
    seed = (config.training.seed + _SEED_OFFSET) % (1 << 63)
    return override(config, {"model.collocation.head": "next-item", "training.seed": seed})


def load_scorer(run: Run) -> CollocationClassifier:
    """Return the run's scorer, training it to its last step if it is not there."""
    config = scorer_config(run.config)
    steps = config.training.collocation_steps
    if run.step(STAGE) < steps:
        accelerator = accelerator_for(config.training)
        with training_progress(accelerator) as progress:
            # The data is the run's, whose seed also says which synthetic outfits there are.
            batches = open_batches(run.config, config.model.collocation.input_size, accelerator, progress, VARIANTS)
            batches.seed = config.training.seed
            trainer = CollocationTrainer(config, batches, accelerator, STAGE)
            train_loop(run, trainer, steps, progress, accelerator)
    classifier = build_classifier(config.model)
    unpack("collocation", classifier, run.load(STAGE))
    return classifier.eval()
