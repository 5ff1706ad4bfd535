"""Running an experiment that trains a classifier or a segmenter."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from scipy.stats import norm

import lps_tf as lps
from lps_tf import certification, robustness
from lps_tf.datasets import PairData
from lps_tf.experiments import training
from lps_tf.experiments.settings import ClassifierSettings, Radius
from lps_tf.experiments.stages import Stages
from lps_tf.experiments.training import MODEL
from lps_tf.networks import classifiers
from lps_tf.training import multi_worker


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
        data: Function that gives the data, when they are needed.
        before: Folder of the experiment that has learned the perturbation set.
        strategy: Devices to train on; only the chief of several machines goes on from
            there.

    Returns:
        The results, for metrics.json.
    """
    s = settings

    def perturbation_set() -> lps.PerturbationSet:
        return keras.models.load_model(before / MODEL)

    def train() -> dict:
        keras.utils.set_random_seed(s.seed)

        def make() -> lps.RobustClassifier:
            pset = perturbation_set()
            return lps.RobustClassifier(
                network(s, data()),
                perturbation(s, pset),
                clean_fraction=s.clean_fraction,
            )

        segments = s.network == "Unet"
        perturbed = s.training in ("perturbed", "mixture")
        learned = training.train(
            run,
            s,
            make,
            data().train_perturbed if perturbed else data().train,
            data().val,
            optimizer(s),
            strategy,
            metrics=["accuracy", "mean_iou"] if segments else ["accuracy"],
        )
        pset = perturbation_set()
        resolved = {
            "radius": _radius(pset, s.radius),
            "radii": [_radius(pset, radius) for radius in s.radii],
            "sigma": sigma(s, pset),
        }
        return {"data": data().name, "resolved": resolved, **learned}

    trained = run.stage("train", train)
    if not multi_worker.is_chief(strategy):
        return {}

    def evaluate() -> dict:
        options = {"steps": s.steps, "seed": s.seed}
        attack = (
            lps.LatentAPGD(perturbation_set(), **options)
            if s.attack == "apgd"
            else lps.LatentPGD(perturbation_set(), relative_step=0.05, **options)
        )
        report = robustness.evaluate_robustness(
            keras.models.load_model(run / MODEL),
            data(),
            attack,
            trained["resolved"]["radii"],
            directory=run / "evaluation",
            limit=s.limit,
            verbose=run.verbose,
        )
        report.plot(run / "pictures" / "robustness.png")
        run.console.print(str(report), markup=False)
        rows, versions = report.rows, len(data().perturbations)
        clean, mean = rows["clean"], rows["perturbed/mean"]

        def overall(measure: str) -> float | None:
            one, others = getattr(clean, measure), getattr(mean, measure)
            return None if one is None else (one + versions * others) / (versions + 1)

        return {
            "rows": json.loads(report.to_json())["rows"],
            # The image itself is one version: the first of 25 lights, for instance.
            "all_versions": {k: overall(k) for k in ("accuracy", "mean_iou")},
        }

    def smoothed() -> lps.SmoothedClassifier:
        return lps.SmoothedClassifier(
            keras.models.load_model(run / MODEL),
            perturbation_set(),
            trained["resolved"]["sigma"],
            seed=s.seed,
        )

    def certify() -> dict:
        report = certification.certify_dataset(
            smoothed(),
            data().test,
            run / "certificates",
            n0=s.n0,
            n=s.n,
            alpha=s.alpha,
            limit=s.limit,
            verbose=run.verbose,
        )
        report.plot(run / "pictures")
        run.console.print(str(report), markup=False)
        return report.to_dict()

    def export() -> dict:
        smooths = s.training == "smoothing"
        model = smoothed() if smooths else keras.models.load_model(run / MODEL)
        lps.export(model, run / "saved_model")
        return {"folder": "saved_model"}

    results = {**trained, "robustness": run.stage("evaluate", evaluate)}
    if s.training == "smoothing":
        results["certified"] = run.stage("certify", certify)
    return {**results, "export": run.stage("export", export)}


def network(settings: ClassifierSettings, data: PairData) -> keras.Model:
    """The classifier, not trained."""
    make, sizes = getattr(classifiers, settings.network), settings.sizes
    if settings.network != "Unet":  # which takes images of any size
        return make(data.image_shape, data.num_classes, **sizes)
    model = make(data.num_classes, **sizes)
    model.build((None, *data.image_shape))
    return model


def optimizer(settings: ClassifierSettings) -> Callable:
    """Makes the optimizer, given a learning rate."""
    if settings.optimizer == "adam":
        return keras.optimizers.Adam
    return lambda rate: keras.optimizers.SGD(rate, momentum=0.9)


def perturbation(
    settings: ClassifierSettings, pset: lps.PerturbationSet
) -> Callable | None:
    """What perturbs the images that it is trained on; None for images as they are."""
    s, radius = settings, _radius(pset, settings.radius)
    if s.training == "augmentation":
        return lps.LatentAugmentation(pset, radius=radius, seed=s.seed)
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
    return None


def sigma(settings: ClassifierSettings, pset: lps.PerturbationSet) -> float | None:
    """Standard deviation of the noise; see `ClassifierSettings`."""
    s = settings
    if not isinstance(s.sigma, str):
        return s.sigma
    # If all of n samples agree, the lower bound of Clopper and Pearson is
    # alpha^(1/n), and the radius sigma times the normal quantile of that.
    most = norm.ppf(s.alpha ** (1 / s.n))
    return float(_radius(pset, s.sigma) / most)


def _radius(pset: lps.PerturbationSet, radius: Radius | None) -> float | None:
    return pset.calibration["quantiles"][radius] if isinstance(radius, str) else radius
