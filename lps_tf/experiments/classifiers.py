"""Running an experiment that trains a classifier or a segmenter."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import norm

import lps_tf as lps
from lps_tf import certification, robustness
from lps_tf.datasets import PairData, pairing
from lps_tf.experiments import training
from lps_tf.experiments.settings import ClassifierSettings, Radius
from lps_tf.experiments.stages import Stages
from lps_tf.experiments.training import MODEL
from lps_tf.networks import classifiers
from lps_tf.training import multi_worker

#: Data whose perturbations are common corruptions: measured at every severity too.
CORRUPTED = ("cifar10_corrupted", "photos", "fashion_corrupted")


def run_classifier(
    run: Stages,
    settings: ClassifierSettings,
    data: Callable[[], PairData],
    before: Path,
    strategy: tf.distribute.Strategy,
) -> dict:
    """Trains, attacks, certifies and exports a classifier, as far as it is not done.

    Args:
        run: Folder of the experiment.
        settings: Settings of the experiment.
        data: Function that returns the data, called only once they are needed.
        before: Folder of the experiment that has learned the perturbation set.
        strategy: Devices to train on. Of several machines, only the chief goes on from
            there.

    Returns:
        The results, for metrics.json.
    """
    work = _Work(run, settings, data, before)
    trained = run.stage("train", lambda: work.train(strategy))
    if not multi_worker.is_chief(strategy):
        return {}
    resolved = trained["resolved"]

    def evaluate() -> dict:
        return work.evaluate(resolved["radii"])

    results = {**trained, "robustness": run.stage("evaluate", evaluate)}
    if settings.data in CORRUPTED:
        results["corruptions"] = run.stage("corruptions", work.corruption_errors)
    model = work.model
    if settings.sigma is not None:

        def model() -> lps.SmoothedClassifier:
            return work.smoothed(resolved["sigma"])

        results["certified"] = run.stage(
            "certify", lambda: work.certify(model(), resolved["radii"])
        )
    return {**results, "export": run.stage("export", lambda: work.export(model()))}


@dataclass(frozen=True)
class _Work:
    """What the stages of an experiment do; each loads what an earlier one has saved."""

    run: Stages
    settings: ClassifierSettings
    data: Callable[[], PairData]
    before: Path

    def perturbation_set(self) -> lps.PerturbationSet:
        return keras.models.load_model(self.before / MODEL)

    def model(self) -> keras.Model:
        return keras.models.load_model(self.run / MODEL)

    def smoothed(self, sigma: float) -> lps.SmoothedClassifier:
        pset = self.perturbation_set()
        return lps.SmoothedClassifier(
            self.model(), pset, sigma, seed=self.settings.seed
        )

    def train(self, strategy: tf.distribute.Strategy) -> dict:
        s, data = self.settings, self.data
        keras.utils.set_random_seed(s.seed)

        # Called under the strategy, so that all variables are of its devices: those of
        # the set as well, which is why it is loaded in here.
        def make() -> lps.RobustClassifier:
            return lps.RobustClassifier(
                network(s, data()),
                perturbation(s, self.perturbation_set(), data),
                objective(s),
                clean_fraction=s.clean_fraction,
            )

        segments = s.network == "Unet"
        learned = training.train(
            self.run,
            s,
            make,
            training_images(s, data()),
            data().val,
            optimizer(s),
            strategy,
            metrics=["accuracy", "mean_iou"] if segments else ["accuracy"],
        )
        # Quantiles become numbers: the other stages and the report need no set.
        pset = self.perturbation_set()
        resolved = {
            "radius": _radius(pset, s.radius),
            "radii": [_radius(pset, radius) for radius in s.radii],
            "sigma": None if s.sigma is None else sigma(s, pset),
        }
        return {"data": data().name, "resolved": resolved, **learned}

    def evaluate(self, radii: list[float]) -> dict:
        s, run = self.settings, self.run
        options: dict[str, Any] = {"steps": s.steps, "seed": s.seed}
        attack = (
            lps.LatentAPGD(self.perturbation_set(), **options)
            if s.attack == "apgd"
            else lps.LatentPGD(self.perturbation_set(), relative_step=0.05, **options)
        )
        report = robustness.evaluate_robustness(
            self.model(),
            self.data(),
            attack,
            radii,
            directory=run / "evaluation",
            limit=s.limit,
            verbose=run.verbose,
        )
        report.plot(run / "pictures")
        run.console.print(str(report), markup=False)
        rows, versions = report.rows, len(self.data().perturbations)
        clean, mean = rows["clean"], rows["perturbed/mean"]

        def overall(measure: str) -> float | None:
            one, others = getattr(clean, measure), getattr(mean, measure)
            return None if one is None else (one + versions * others) / (versions + 1)

        return {
            "rows": json.loads(report.to_json())["rows"],
            # The image itself is one version: the first of 25 lights, for instance.
            "all_versions": {k: overall(k) for k in ("accuracy", "mean_iou")},
        }

    def corruption_errors(self) -> dict:
        run = self.run
        report = robustness.corruption_errors(
            self.model(),
            self.data(),
            directory=run / "corruptions",
            limit=self.settings.limit,
            verbose=run.verbose,
        )
        report.plot(run / "pictures")
        run.console.print(str(report), markup=False)
        return report.to_dict()

    def certify(self, smoothed: lps.SmoothedClassifier, radii: list[float]) -> dict:
        s, run = self.settings, self.run
        report = certification.certify_dataset(
            smoothed,
            self.data().test,
            run / "certificates",
            perturbed=self.data().test_groups,
            n0=s.n0,
            n=s.n,
            alpha=s.alpha,
            limit=s.limit if s.certify_limit is None else s.certify_limit,
            verbose=run.verbose,
        )
        report.plot(run / "pictures")
        run.console.print(str(report), markup=False)
        # Also at the radii of the attacks, to compare what holds with what is certain.
        return report.to_dict(np.union1d(report.radii, radii))

    def export(self, model: keras.Model | lps.SmoothedClassifier) -> dict:
        lps.export(model, self.run / "saved_model")
        return {"folder": "saved_model"}


def network(settings: ClassifierSettings, data: PairData) -> keras.Model:
    """Makes the classifier, not trained."""
    make, sizes = getattr(classifiers, settings.network), settings.sizes
    if settings.network != "Unet":  # which takes images of any size
        return make(data.image_shape, data.num_classes, **sizes)
    model = make(data.num_classes, **sizes)
    model.build((None, *data.image_shape))
    return model


def training_images(settings: ClassifierSettings, data: PairData) -> tf.data.Dataset:
    """The labelled images to train on, before any is perturbed in the learned set."""
    if settings.training in ("perturbed", "mixture"):
        return data.train_perturbed
    if settings.training == "hybrid":
        share = settings.clean_fraction
        return pairing.mixed(data.train_perturbed, data.train, share)
    return data.train


def optimizer(settings: ClassifierSettings) -> Callable:
    """Returns a function from a learning rate to the optimizer."""
    if settings.optimizer == "adam":
        return keras.optimizers.Adam
    return lambda rate: keras.optimizers.SGD(rate, momentum=0.9)


def perturbation(
    settings: ClassifierSettings,
    pset: lps.PerturbationSet,
    data: Callable[[], PairData],
) -> Callable | None:
    """Makes what perturbs the training images; None leaves them as they are."""
    s, radius = settings, _radius(pset, settings.radius)
    if s.training == "augmix":
        return lps.AugMix(seed=s.seed)
    if s.training == "prime":
        return lps.Prime(seed=s.seed)
    if s.training == "augmentation":
        return lps.LatentAugmentation(pset, radius=radius, seed=s.seed)
    if s.training == "encoded":
        latents, _ = pset.encode_pairs(data().train_pairs)
        return lps.LatentAugmentation(pset, radius=radius, latents=latents, seed=s.seed)
    if s.training in ("adversarial", "mixture"):
        return lps.LatentPGD(
            pset,
            radius=radius,
            steps=s.attack_steps,
            relative_step=s.attack_relative_step,
            seed=s.seed,
        )
    if s.training == "smoothing":
        return lps.LatentNoise(pset, sigma(s, pset), seed=s.seed)
    if s.training in ("smooth_adv", "hybrid"):
        return lps.SmoothedPGD(
            pset,
            sigma(s, pset),
            radius=radius,
            steps=s.attack_steps,
            relative_step=s.attack_relative_step,
            num_samples=1,
            seed=s.seed,
        )
    return None


def objective(
    settings: ClassifierSettings,
) -> robustness.objectives.TrainingObjective | None:
    """Makes what is minimised; None for the default of the perturbation."""
    if settings.training in ("augmix", "prime"):
        return robustness.objectives.JensenShannon()
    return None


def sigma(settings: ClassifierSettings, pset: lps.PerturbationSet) -> float:
    """Returns the standard deviation of the noise; see `ClassifierSettings`."""
    s = settings
    if not isinstance(s.sigma, str):
        assert s.sigma is not None  # every row of the table that smooths has it
        return s.sigma
    # If all of n samples agree, the lower bound of Clopper and Pearson is
    # alpha^(1/n), and the radius sigma times the normal quantile of that.
    largest = norm.ppf(s.alpha ** (1 / s.n))
    return float(_radius(pset, s.sigma) / largest)


@overload
def _radius(pset: lps.PerturbationSet, radius: Radius) -> float: ...
@overload
def _radius(pset: lps.PerturbationSet, radius: None) -> None: ...
def _radius(pset: lps.PerturbationSet, radius: Radius | None) -> float | None:
    """Returns a radius as a number: quantiles are those of validation pairs."""
    if not isinstance(radius, str):
        return radius
    assert pset.calibration is not None  # the experiment of the set has calibrated it
    return pset.calibration["quantiles"][radius]
