"""How robust is a classifier? The table of the paper's section 5, in one call."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, files, inputs
from lps_tf._internal.progress import progress
from lps_tf._internal.store import Store
from lps_tf._version import __version__
from lps_tf.corruptions import BENCHMARK, CORRUPTIONS, corrupt
from lps_tf.datasets.base import PairData
from lps_tf.perturbations import AttackResult, LatentAutoAttack
from lps_tf.perturbations.base import LatentAttack
from lps_tf.robustness.corruption_report import SEVERITIES, CorruptionReport
from lps_tf.robustness.report import RobustnessReport, Row
from lps_tf.robustness.score_cache import Batch, ScoreCache
from lps_tf.robustness.scores import (
    Scorer,
    Scores,
    attacked,
    by_version,
    joined,
    mean,
    mean_iou,
    scorer,
    worst,
)
from lps_tf.sets.protocol import LatentSet


def evaluate_robustness(
    classifier: keras.Model,
    data: Any,
    attack: LatentAttack | LatentSet | None = None,
    radii: Sequence[float] | None = None,
    *,
    ignore_class: int | None = None,
    batch_size: int = 32,
    directory: str | Path | None = None,
    limit: int | None = None,
    verbose: bool = True,
) -> RobustnessReport:
    """Measures a classifier or a segmenter on test data (paper, section 5).

    Clean; on each real perturbation, on average and on the worst version of each
    image; on average and at the worst point of a grid over the perturbation's
    parameters; on perturbations never trained on; under a latent attack at each
    radius. What the data do not have is left out.

    On its worst version, a prediction is correct if it is so on all of them; of a
    segmenter it is the version of largest loss. An image is a member of its own set.

    Args:
        classifier: Classifier (batch, classes) or segmenter (batch, height, width,
            classes).
        data: A `PairData`, whose `test`, `test_groups` and `unseen_groups` are
            measured, and `grid_groups`; or labelled images alone, in any form that
            `fit` takes: a tf.data.Dataset of batches (x, y), two arrays in a tuple.
        attack: A perturbation set, which `LatentAutoAttack` searches at its standard
            settings, or another attack; None for no attack.
        radii: Radii of the attack, default its own.
        ignore_class: Label of void pixels, such as 255, which count in no accuracy, no
            IoU, no loss and no attack's success; None if there are none.
        batch_size: Images in a batch of arrays; other data have batches of their own.
        directory: Folder that keeps the results of finished batches: the same call,
            made again after an interruption, goes on where it stopped.
        limit: Number of images to evaluate of each data set, default all.
        verbose: Whether to show progress.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: If an argument is bad, data do not fit the classifier, or the
            directory holds results of another classifier, attack or data set.
    """
    if not isinstance(data, PairData):
        data = _Images(data, batch_size)
    if limit is not None:
        limit = checks.count("limit", limit)
    if attack is None and radii is not None:
        raise ValueError(f"`radii` need an `attack`. Received: radii={radii}")
    if radii is not None:
        radii = sorted({checks.positive("radii", radius) for radius in radii})
    if isinstance(attack, LatentSet):
        attack = LatentAutoAttack(attack, radius=radii[-1] if radii else None)
    if attack is not None and radii is None:
        radii = [attack.radius]
    settings: dict[str, Any] = {}
    if directory is not None:
        settings = _settings(classifier, data, attack, radii, limit, ignore_class)
    measure = _Measure(
        score=scorer(classifier, data.num_classes, ignore_class),
        cache=ScoreCache(Store(directory, settings)),
        limit=limit,
        verbose=verbose,
    )
    measure.alone("clean", data.test)
    measure.in_groups("perturbed", data.test_groups, data.perturbations)
    measure.on_grid("grid", data.grid_groups)
    measure.in_groups("unseen", data.unseen_groups, data.unseen_perturbations)
    if attack is not None and radii is not None:
        search = partial(
            attack.stream, classifier, radii=radii, ignore_class=ignore_class
        )
        measure.under_attack(data.test, search, attack.perturbation_set, radii)
    return RobustnessReport(
        data=data.name,
        rows={name: Row.of(*values) for name, values in measure.table.items()},
        correct={name: values[1] for name, values in measure.table.items()},
        found_by=measure.found_by,
    )


def corruption_errors(
    classifier: keras.Model,
    data: Any,
    *,
    corruptions: Sequence[str] = BENCHMARK,
    batch_size: int = 32,
    directory: str | Path | None = None,
    limit: int | None = None,
    verbose: bool = True,
) -> CorruptionReport:
    """Measures a classifier under common corruptions at severities 1 to 5.

    Images are corrupted here, as bytes, as those of CIFAR-10-C are: any labelled images
    have all severities. An image's corruption depends on its place in the data alone.

    Example:
        report = lps.corruption_errors(classifier, data)
        print(report.mean_corruption_error(lps.corruption_errors(plain, data)))

        # The published images of CIFAR-10-C.
        lps.corruption_errors(classifier, lps.datasets.cifar10_published)

    Args:
        classifier: Classifier, (batch, classes).
        data: A `PairData`, of which `test` is corrupted; labelled images in any form
            that `fit` takes; or a function (corruption, severity) -> batches (x, y)
            that are corrupted already, such as `datasets.cifar10_published`.
        corruptions: Names out of `lps_tf.corruptions.CORRUPTIONS`, by default the 15
            that the mean corruption error is of.
        batch_size: Images in a batch of arrays; other data have batches of their own.
        directory: Folder that keeps the results of finished batches, as for
            `evaluate_robustness`.
        limit: Number of images to evaluate, default all.
        verbose: Whether to show progress.

    Returns:
        A `CorruptionReport`.

    Raises:
        ValueError: If there is no such corruption, data do not fit the classifier, it
            is a segmenter (corruptions move pixels away from their labels), or the
            directory holds results of another classifier or data set.
    """
    unknown = [name for name in corruptions if name not in CORRUPTIONS]
    if unknown or not corruptions:
        raise ValueError(
            f"`corruptions` must be names out of {CORRUPTIONS}. "
            f"Received: corruptions={tuple(corruptions)}"
        )
    if limit is not None:
        limit = checks.count("limit", limit)
    given = data if callable(data) else None
    if given is not None:
        data = _Images(None, batch_size)
        data.name = getattr(given, "__name__", data.name)
    elif not isinstance(data, PairData):
        data = _Images(data, batch_size)
    settings: dict[str, Any] = {}
    if directory is not None:
        settings = _settings(classifier, data, None, None, limit, None)
    measure = _Measure(
        score=scorer(classifier, data.num_classes),
        cache=ScoreCache(Store(directory, settings)),
        limit=limit,
        verbose=False,
    )
    if given is None:
        measure.alone("clean", data.test)
    pairs = list(itertools.product(corruptions, SEVERITIES))
    for name, severity in progress(pairs, "corruptions", verbose):
        images = (
            _corrupted(_batches(data.test, limit, "test", False), name, severity)
            if given is None
            else given(name, severity)
        )
        part = f"{name}_{severity}"
        measure.alone(part, images)
        if measure.table[part][2] is not None:  # it has a mean IoU
            raise ValueError(
                "Corruptions move pixels, and maps of labels would stay: errors are of "
                "classifiers. Received: a segmenter"
            )
    rows = {name: Row.of(*values) for name, values in measure.table.items()}
    errors = {
        name: tuple(1 - rows[f"{name}_{severity}"].accuracy for severity in SEVERITIES)
        for name in corruptions
    }
    return CorruptionReport(
        data=data.name,
        n=min(row.n for row in rows.values()),
        clean=1 - rows["clean"].accuracy if given is None else None,
        errors=errors,
    )


def _corrupted(
    batches: Iterator[Batch], name: str, severity: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Corrupted images, rounded to bytes as published ones are, with their labels."""
    for index, x, y in batches:
        images = np.uint8(np.round(255 * np.asarray(x)))
        found = corrupt(images, name, severity, index=index)
        yield found.astype(np.float32) / 255, y


@dataclass
class _Measure:
    """Scores parts of the data, each into lines of the table.

    Attributes:
        score: Scorer of the classifier.
        cache: What is there of an earlier call.
        limit: Number of images of each part, None for all.
        verbose: Whether to show progress.
        table: Losses (n,), correct predictions (n,), mean IoU and calibration by
            name.
        found_by: Number of images for which each attack found something, by name of the
            line and of the attack.
    """

    score: Scorer
    cache: ScoreCache
    limit: int | None
    verbose: bool
    table: dict[str, tuple] = field(default_factory=dict)
    found_by: dict[str, dict[str, int]] = field(default_factory=dict)

    def alone(self, part: str, dataset: Any) -> None:
        """Scores images as they are."""

        def work(batches: Iterator[Batch]) -> Iterator[Scores]:
            return (self.score([x], y) for _, x, y in batches)

        self._add(part, dataset, work, lambda versions: [part])

    def in_groups(self, part: str, groups: Any, names: Sequence[str]) -> None:
        """Scores each version of images, their mean and the worst; None is left out."""
        if groups is None:
            return

        def work(batches: Iterator[Batch]) -> Iterator[Scores]:
            for _, x, y in batches:
                scores = self.score(tf.unstack(x, axis=1), y)
                yield joined([scores, worst(scores)])

        self._add(part, groups, work, _group_names(part, names))
        _add_mean(self.table, part)

    def on_grid(self, part: str, groups: Any) -> None:
        """Scores the mean and the worst of many versions; None is left out."""
        if groups is None:
            return

        def work(batches: Iterator[Batch]) -> Iterator[Scores]:
            for _, x, y in batches:
                # Many versions of few images are predicted as one batch.
                flat = tf.reshape(x, (-1, *x.shape[2:]))
                of_all = self.score([flat], tf.repeat(y, x.shape[1], 0))
                scores = by_version(of_all, len(x))
                yield joined([mean(scores), worst(scores)])

        names = [f"{part}/mean", f"{part}/worst"]
        self._add(part, groups, work, lambda versions: names)

    def under_attack(
        self,
        dataset: Any,
        search: Callable[[Iterator[Batch]], Iterator[tuple[Any, AttackResult]]],
        perturbation_set: LatentSet,
        radii: Sequence[float],
    ) -> None:
        """Scores what a search has found for images, at each radius."""

        def work(batches: Iterator[Batch]) -> Iterator[Scores]:
            batches, same = itertools.tee(batches)
            for (_, result), (_, x, y) in zip(search(batches), same, strict=False):
                yield attacked(self.score, perturbation_set, x, y, result)

        names = [f"attack/{radius:g}" for radius in radii]
        self._add("attack", dataset, work, lambda versions: names)

    def _add(
        self,
        part: str,
        dataset: Any,
        work: Callable[[Iterator[Batch]], Iterator[Scores]],
        names: Callable[[int], list[str]],
    ) -> None:
        batches = _batches(dataset, self.limit, part, self.verbose)
        scores = joined(self.cache.complete(part, batches, work), axis=1)
        for name, *version in zip(names(len(scores.loss)), *scores, strict=True):
            loss, correct, confusion, calibration, found_by = version
            iou = mean_iou(confusion.sum(0))
            self.table[name] = loss, correct, iou, calibration.sum(0)
            counts = Counter(str(attack) for attack in found_by if attack)
            if counts:
                others = sorted(counts.keys() - {"clean"})
                order = ["clean"] * ("clean" in counts) + others
                self.found_by[name] = {attack: counts[attack] for attack in order}


def _group_names(part: str, names: Sequence[str]) -> Callable[[int], list[str]]:
    def all_names(versions: int) -> list[str]:
        # The last version is the worst of the others.
        given = names or [f"draw {i}" for i in range(1, versions)]
        if len(given) != versions - 1:
            raise ValueError(
                f"The {part} groups must hold one version for each name. Received: "
                f"{versions - 1} versions, names {tuple(names)}"
            )
        return [f"{part}/{name}" for name in (*given, "worst")]

    return all_names


def _add_mean(table: dict[str, tuple], part: str) -> None:
    """Adds the mean over the versions of a part, in front of the worst of them."""
    worst_version = table.pop(f"{part}/worst")
    versions = [values for name, values in table.items() if name.startswith(part)]
    loss, correct, ious, calibrations = zip(*versions, strict=True)
    iou = None if None in ious else float(np.mean(ious))
    # Calibration is that of all predictions together.
    sums = np.sum(calibrations, 0)
    table[f"{part}/mean"] = np.mean(loss, 0), np.mean(correct, 0), iou, sums
    table[f"{part}/worst"] = worst_version


class _Images:
    """Labelled images of a user as the part of a `PairData` that is measured."""

    name = "unnamed data"
    num_classes = None
    image_shape = None
    test_groups = grid_groups = unseen_groups = None
    perturbations = unseen_perturbations = ()

    def __init__(self, data: Any, batch_size: int):
        if hasattr(data, "__next__"):
            raise ValueError(
                "An evaluation reads the data more than once, and a generator gives "
                "them once: pass arrays, a tf.data.Dataset or a PyDataset. "
                f"Received: {data}"
            )
        self._data, self._batch_size = data, batch_size

    @property
    def test(self) -> Iterator[tuple]:
        return inputs.batches(self._data, batch_size=self._batch_size)


def _batches(
    dataset: Any, limit: int | None, what: str, verbose: bool
) -> Iterator[Batch]:
    """Numbered batches of a data set, at most `limit` images in all."""
    if isinstance(dataset, tf.data.Dataset) and limit is not None:
        first = next(iter(dataset), None)
        size = 1 if first is None else len(first[0])
        dataset = dataset.take(-(-limit // size))  # for the length of the progress
    start = 0
    for x, y in progress(dataset, what, verbose):
        if limit is not None:
            x, y = x[: limit - start], y[: limit - start]
        yield np.arange(start, start + len(x)), x, y
        start += len(x)
        if start == limit:
            break
    if not start:
        raise ValueError(f"There are no {what} images: the data set is empty.")


def _settings(
    classifier: keras.Model,
    data: Any,
    attack: Any,
    radii: Sequence[float] | None,
    limit: int | None,
    ignore_class: int | None,
) -> dict[str, Any]:
    """What results depend on, beside the images, which are compared one by one."""
    settings: dict[str, Any] = {
        "classifier": files.digest(*classifier.get_weights()),
        "data set": [data.name, data.image_shape, data.num_classes],
        "limit": limit,
        "void label": ignore_class,
        "version of lps_tf": __version__,
    }
    if attack is not None:
        plain = (bool, int, float, str)
        numbers = {k: v for k, v in vars(attack).items() if isinstance(v, plain)}
        settings["attack"] = {"kind": type(attack).__name__, **numbers}
        settings["list of radii"] = radii
        settings["perturbation set"] = attack.perturbation_set.digest()
    return settings
