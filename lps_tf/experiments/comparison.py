"""Classifiers trained from several seeds, in one table with intervals."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from lps_tf._internal import checks, files
from lps_tf.experiments import running
from lps_tf.experiments.report import corruption_report, is_total
from lps_tf.experiments.settings import ClassifierSettings
from lps_tf.experiments.table import find
from lps_tf.robustness.corruption_report import CorruptionReport
from lps_tf.robustness.report import wilson_interval


class Estimate(NamedTuple):
    """A mean over seeds with its 95% interval; see `estimate`."""

    mean: float
    low: float
    high: float


def estimate(accuracies: Sequence[float], n: int) -> Estimate:
    """The mean accuracy of trainings from several seeds, and a 95% interval of it.

    Two things could have come out otherwise: the training (Student's interval of the
    mean over seeds) and the test images, which all seeds share (Wilson's interval).
    They are independent: half-widths add as squares.

    Args:
        accuracies: Accuracy of each seed, in [0, 1], two or more.
        n: Number of test images.

    Returns:
        An `Estimate`, its ends within [0, 1].
    """
    k, mean = len(accuracies), float(np.mean(accuracies))
    spread = float(np.std(accuracies, ddof=1))
    seeds = float(stats.t.ppf(0.975, k - 1)) * spread / math.sqrt(k)
    low, high = wilson_interval(mean, n)
    return Estimate(
        mean,
        max(0.0, mean - math.hypot(seeds, mean - low)),
        min(1.0, mean + math.hypot(seeds, high - mean)),
    )


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        data: Name of the data.
        scale: Scale of the experiments.
        seeds: Number of seeds.
        images: Number of test images.
        accuracy: By experiment, then by line of its robustness report ("clean",
            "perturbed/mean", ...; "certified/RADIUS" of smoothed ones, and
            "severities/mean" over corruptions at severities 1 to 5): estimates.
        corruption_error: By experiment, the mean corruption error of each seed,
            relative to the classifier trained on clean images from the same seed; empty
            unless that one is compared, on corrupted data.
    """

    data: str
    scale: str
    seeds: int
    images: int
    accuracy: dict[str, dict[str, Estimate]]
    corruption_error: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        """A table in Markdown, in percent: means, with intervals in brackets."""
        lines = dict.fromkeys(line for rows in self.accuracy.values() for line in rows)
        families = {name.rpartition("/")[0] for name in self.accuracy}
        names = [
            name.split("/")[-1] if len(families) == 1 else name
            for name in self.accuracy
        ]
        table = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
        for line in lines:
            found = [_percent(rows.get(line)) for rows in self.accuracy.values()]
            table.append(f"| {line.replace('/', ' ')} | {' | '.join(found)} |")
        if self.corruption_error:
            found = [f"{100 * np.mean(e):.1f}" for e in self.corruption_error.values()]
            table.append(f"| mean corruption error | {' | '.join(found)} |")
        about = (
            f"{self.data}: accuracy in percent of {self.images} test images, mean of "
            f"{self.seeds} seeds, 95% interval over seeds and images ({self.scale} "
            "scale)."
        )
        return "\n".join([about, "", *table])

    def to_dict(self) -> dict[str, Any]:
        """The fields, with estimates as dictionaries."""
        accuracy = {
            name: {line: value._asdict() for line, value in rows.items()}
            for name, rows in self.accuracy.items()
        }
        return {**asdict(self), "accuracy": accuracy}


def compare(
    names: Sequence[str],
    scale: str = "laptop",
    output: str | Path | None = None,
    *,
    seeds: int = 3,
    data_dir: str | Path | None = None,
    verbose: bool = True,
) -> Comparison:
    """Runs classifiers from several seeds, or what is left of it, and compares them.

    The set that they build on is learned once. The comparison is written to
    `output`/comparisons, under the names of the experiments' families, as JSON and
    Markdown.

    Args:
        names: Names of experiments that train classifiers on one source of data.
        scale: One of "paper", "laptop" and "quick".
        output: Folder of all experiments of one scale, default runs/`scale`.
        seeds: Number of seeds, two or more: 0, 1, ...
        data_dir: Folder of the data sets, default that of TensorFlow Datasets.
        verbose: Whether to show progress and results.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If there is no name, an experiment is unknown or trains no
            classifier, there are fewer than two seeds, or the data differ.
    """
    seeds = checks.count("seeds", seeds, least=2)
    names = list(dict.fromkeys(names))
    settings = [find(name).settings(scale) for name in names]
    if not settings or not all(isinstance(s, ClassifierSettings) for s in settings):
        raise ValueError(
            "`names` must be of experiments that train classifiers; `list` names them. "
            f"Received: names={names}"
        )
    sources = {s.source for s in settings}
    if len(sources) > 1:  # before any of them is trained
        raise ValueError(
            "Experiments to compare must have the same data. Received: "
            f"{', '.join(sorted(sources))}"
        )
    output = Path(output or f"runs/{scale}")
    accuracy, data, images = {}, "", 0
    corrupted: dict[str, list[CorruptionReport]] = {}
    for name in names:
        of_seeds = [
            running.run(
                name, scale, output, data_dir=data_dir, seed=seed, verbose=verbose
            )
            for seed in range(seeds)
        ]
        data = of_seeds[0]["data"]
        images = of_seeds[0]["robustness"]["rows"]["clean"]["n"]
        accuracy[name] = _estimates(of_seeds)
        if "corruptions" in of_seeds[0]:
            corrupted[name] = [corruption_report(m) for m in of_seeds]
    plain = next((name for name in corrupted if name.endswith("/plain")), None)
    relative = {
        name: [
            one.mean_corruption_error(baseline)
            for one, baseline in zip(reports, corrupted[plain], strict=True)
        ]
        for name, reports in corrupted.items()
        if plain is not None
    }
    comparison = Comparison(data, scale, seeds, images, accuracy, relative)
    common = "+".join(dict.fromkeys(name.rpartition("/")[0] for name in names))
    path = output / "comparisons" / common
    files.write_json(path.with_suffix(".json"), comparison.to_dict())
    files.write_text(path.with_suffix(".md"), f"{comparison}\n")
    return comparison


def _estimates(of_seeds: list[dict]) -> dict[str, Estimate]:
    """Estimates by line of the report, of the metrics of each seed."""
    found = {
        line: estimate([m["robustness"]["rows"][line]["accuracy"] for m in of_seeds], n)
        for line, n in (
            (line, row["n"])
            for line, row in of_seeds[0]["robustness"]["rows"].items()
            if is_total(line)
        )
    }
    if "certified" in of_seeds[0]:
        certified = [m["certified"] for m in of_seeds]
        for radius in of_seeds[0]["resolved"]["radii"]:
            rates = [
                c["certified_accuracy"][c["radii"].index(radius)] for c in certified
            ]
            found[f"certified/{radius:.3g}"] = estimate(rates, certified[0]["images"])
    if "corruptions" in of_seeds[0]:
        reports = [corruption_report(m) for m in of_seeds]
        rates = [1 - report.mean_error for report in reports]
        found["severities/mean"] = estimate(rates, reports[0].n)
    return found


def _percent(value: Estimate | None) -> str:
    if value is None:
        return ""
    mean, low, high = (f"{100 * part:.1f}" for part in value)
    return f"{mean} ({low}-{high})"
