"""How robust is a classifier? The table of the paper's section 5, in one call."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, files
from lps_tf._internal.progress import progress
from lps_tf._version import __version__
from lps_tf.datasets.base import PairData
from lps_tf.perturbations import LatentAPGD, LatentPGD, RandomSearch
from lps_tf.robustness.finished import Batch, Finished
from lps_tf.robustness.report import RobustnessReport, Row
from lps_tf.robustness.scores import Scores, attacked, joined, mean_iou, scorer, worst


def evaluate_robustness(
    classifier: keras.layers.Layer,
    data: PairData,
    attack: LatentAPGD | LatentPGD | RandomSearch | None = None,
    radii: Sequence[float] | None = None,
    *,
    directory: str | Path | None = None,
    limit: int | None = None,
    verbose: bool = True,
) -> RobustnessReport:
    """Measures a classifier or a segmenter on test data (paper, section 5).

    Clean; on each real perturbation, on average and on the worst version of each
    image; the same for perturbations never trained on; under a latent attack at each
    radius. What the data do not have is left out.

    On its worst version, a classifier is right if it is right on all of them; of a
    segmenter it is the version of largest loss. An image is a member of its own set.

    Args:
        classifier: maps images to logits, (batch, classes), or for a segmenter
            (batch, height, width, classes).
        data: test images in `test`, `test_groups` and `unseen_groups`.
        attack: a `LatentAPGD`, or a weaker one; None for no attack.
        radii: of the attack, default its own.
        directory: keeps the results of finished batches: the same call, made again
            after an interruption, goes on where it stopped.
        limit: evaluates this many images of each data set, default all.
        verbose: whether to show progress.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: for a bad argument, data that do not fit the classifier, or a
            directory that holds results of another classifier, attack or data set.
    """
    if limit is not None:
        limit = checks.count("limit", limit)
    if attack is None and radii is not None:
        raise ValueError(f"`radii` need an `attack`. Received: radii={radii}")
    if attack is not None:
        radii = [attack.radius] if radii is None else radii
        radii = sorted({checks.positive("radii", radius) for radius in radii})
    settings = _settings(classifier, data, attack, radii, limit) if directory else {}
    finished = Finished(directory, settings)
    score = scorer(classifier, data.num_classes)

    def alone(batches: Iterator[Batch]) -> Iterator[Scores]:
        return (score([x], y) for _, x, y in batches)

    def in_groups(batches: Iterator[Batch]) -> Iterator[Scores]:
        for _, x, y in batches:
            scores = score(tf.unstack(x, axis=1), y)
            yield joined([scores, worst(scores)])

    def under_attack(batches: Iterator[Batch]) -> Iterator[Scores]:
        batches, same = itertools.tee(batches)
        results = attack.stream(classifier, batches, radii)
        for (_, result), (_, x, y) in zip(results, same, strict=False):
            yield attacked(score, attack.perturbation_set, x, y, result)

    table = {}  # name: loss (n,), right (n,) and mean IoU

    def measure(
        part: str,
        dataset: tf.data.Dataset,
        work: Callable,
        names: Callable[[int], list[str]],
    ) -> None:
        batches = _batches(dataset, limit, part, verbose)
        scores = joined(finished.complete(part, batches, work), axis=1)
        for name, *version in zip(names(len(scores.loss)), *scores, strict=True):
            loss, right, confusion = version
            table[name] = loss, right, mean_iou(confusion.sum(0))

    measure("clean", data.test, alone, lambda n: ["clean"])
    for part, groups, names in (
        ("perturbed", data.test_groups, data.perturbations),
        ("unseen", data.unseen_groups, data.unseen_perturbations),
    ):
        if groups is not None:
            measure(part, groups, in_groups, _group_names(part, names))
            _add_mean(table, part)
    if attack is not None:
        names = [f"attack/{radius:g}" for radius in radii]
        measure("attack", data.test, under_attack, lambda n: names)
    return RobustnessReport(
        data=data.name,
        rows={name: Row.of(*values) for name, values in table.items()},
        right={name: right for name, (_, right, _) in table.items()},
    )


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
    loss, right, iou = zip(*versions, strict=True)
    iou = None if None in iou else float(np.mean(iou))
    table[f"{part}/mean"] = np.mean(loss, 0), np.mean(right, 0), iou
    table[f"{part}/worst"] = worst_version


def _batches(
    dataset: tf.data.Dataset, limit: int | None, what: str, verbose: bool
) -> Iterator[Batch]:
    """Numbered batches of a data set, at most `limit` images in all."""
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(f"There are no {what} images: the data set is empty.")
    if limit is not None:
        dataset = dataset.take(-(-limit // len(first[0])))
    start = 0
    for x, y in progress(dataset, what, verbose):
        if limit is not None:
            x, y = x[: limit - start], y[: limit - start]
        yield np.arange(start, start + len(x)), x, y
        start += len(x)


def _settings(
    classifier: keras.layers.Layer,
    data: PairData,
    attack: Any,
    radii: list[float] | None,
    limit: int | None,
) -> dict:
    """What results depend on, beside the images, which are compared one by one."""
    settings = {
        "classifier": files.digest(*classifier.get_weights()),
        "data set": [data.name, data.image_shape, data.num_classes],
        "limit": limit,
        "version of lps_tf": __version__,
    }
    if attack is not None:
        plain = (bool, int, float, str)
        numbers = {k: v for k, v in vars(attack).items() if isinstance(v, plain)}
        settings["attack"] = [type(attack).__name__, numbers]
        settings["list of radii"] = radii
        settings["perturbation set"] = attack.perturbation_set.digest()
    return settings
