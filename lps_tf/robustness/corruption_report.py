"""What common corruptions of each severity do to a classifier: a table of errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lps_tf._internal.report import Report

#: How severe a corruption may be.
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class CorruptionReport(Report):
    """What `corruption_errors` found.

    Attributes:
        data: Name of the data set.
        n: Number of images under each corruption.
        clean: Error on images as they are, in [0, 1]; None where only corrupted ones
            were given.
        errors: Errors by name of the corruption, at each of `SEVERITIES`.
    """

    data: str
    n: int
    clean: float | None
    errors: dict[str, tuple[float, ...]]

    @property
    def mean_error(self) -> float:
        """Mean error over corruptions and severities, in [0, 1]."""
        return float(np.mean(list(self.errors.values())))

    def mean_corruption_error(self, baseline: "CorruptionReport") -> float:
        """Errors relative to those of a baseline: 1 is as bad, 0 is without error.

        Of each corruption the sum of the errors over severities, divided by that of
        the baseline; then the mean over corruptions. Hard corruptions so weigh no more
        than easy ones. Papers give it in percent.

        Args:
            baseline: Report of another classifier on the same corruptions: AlexNet on
                ImageNet-C, commonly the same network trained on clean images.

        Raises:
            ValueError: If the corruptions or the data differ, or the baseline makes no
                error under one of them.

        References:
            Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to
            common corruptions and perturbations", arXiv:1903.12261, section 4.2.
        """
        mine = (self.data, self.n, sorted(self.errors))
        others = (baseline.data, baseline.n, sorted(baseline.errors))
        if mine != others:
            raise ValueError(
                "`baseline` must be of the same images and corruptions. Received: "
                f"{others[1]} images of {others[0]} under {others[2]}, for "
                f"{mine[1]} of {mine[0]} under {mine[2]}"
            )
        relative = []
        for name, errors in self.errors.items():
            total = sum(baseline.errors[name])
            if not total:
                raise ValueError(
                    f"The baseline makes no error under {name}: nothing is relative to "
                    "it. Take more images. Received: "
                    f"errors {baseline.errors[name]} of {baseline.n} images"
                )
            relative.append(sum(errors) / total)
        return float(np.mean(relative))

    def summary(self) -> str:
        """The mean error, in a sentence."""
        first, *_, last = np.mean(list(self.errors.values()), 0)
        clean = "" if self.clean is None else f", {self.clean:.1%} without any"
        return (
            f"Of {self.n} images, {self.mean_error:.1%} are misclassified on average "
            f"under {len(self.errors)} corruptions: {first:.1%} at severity 1 and "
            f"{last:.1%} at severity 5{clean}."
        )

    def __str__(self) -> str:
        (table,) = self._tables()
        width = max(len(line[0]) for line in table)
        lines = [
            f"{line[0]:{width}}" + "".join(f"{cell:>8}" for cell in line[1:])
            for line in table
        ]
        return "\n".join(
            [f"Errors under corruptions on {self.data}", self.summary(), "", *lines]
        )

    def _tables(self) -> list[list[list[str]]]:
        rows = {**self.errors, "mean": np.mean(list(self.errors.values()), 0)}
        head = ["error at severity", *map(str, SEVERITIES), "mean"]
        lines = [
            [name, *(f"{100 * v:.1f}%" for v in (*errors, np.mean(errors)))]
            for name, errors in rows.items()
        ]
        return [[head, *lines]]

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the mean error."""
        return {
            "data": self.data,
            "n": self.n,
            "clean": self.clean,
            "errors": {name: list(errors) for name, errors in self.errors.items()},
            "mean_error": self.mean_error,
        }

    def _figures(self) -> dict[str, Figure]:
        """The errors in percent, a row for each corruption, the darker the larger."""
        values = 100 * np.array(list(self.errors.values()))
        values = np.vstack([values, values.mean(0)])
        figure = Figure(figsize=(5, 1 + 0.28 * len(values)), layout="constrained")
        axis = figure.subplots()
        axis.imshow(values, cmap="cividis_r", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > 50 else "black"
            axis.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
            )
        axis.set_xticks(range(len(SEVERITIES)), map(str, SEVERITIES))
        axis.set_yticks(range(len(values)), [*self.errors, "mean"])
        axis.set(xlabel="severity", title=f"{self.data}: errors in percent")
        return {"corruptions": figure}
