"""What evaluations report: tables of accuracies, and checks that passed or failed."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._internal.report import Report


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        accuracy: Share of correct predictions, of a segmenter of labelled pixels.
        low: Lower end of the 95% interval (Wilson) of the accuracy.
        high: Upper end of it. Pixels of one image stand or fall together: the
            interval of a segmenter counts images, and is wider than it need be.
        n: Number of images with a label.
        loss: Mean cross-entropy. Attacks do not push on what is already wrong.
        mean_iou: Mean intersection over union of a segmenter's labels and predictions
            over the whole data set, over the classes that are in either.
    """

    accuracy: float
    low: float
    high: float
    n: int
    loss: float
    mean_iou: float | None

    @classmethod
    def of(cls, loss: np.ndarray, correct: np.ndarray, iou: float | None) -> "Row":
        """The line of losses and correct predictions, each (n,); NaN where void."""
        labelled = ~np.isnan(correct)
        n = int(labelled.sum())
        if not n:
            raise ValueError("Every pixel of every image is void: nothing to count.")
        accuracy, mean_loss = (
            float(correct[labelled].mean()),
            float(loss[labelled].mean()),
        )
        return cls(accuracy, *wilson_interval(accuracy, n), n, mean_loss, iou)


@dataclass(frozen=True)
class RobustnessReport(Report):
    """What `evaluate_robustness` found.

    Attributes:
        data: Name of the data set.
        rows: Lines by name: "clean"; "perturbed/NAME" for each version of the
            test images, "perturbed/mean" of them and "perturbed/worst" of each
            image; the same with "unseen" for perturbations that no training data
            has; "attack/RADIUS" for each radius.
        correct: What the accuracies are means of, by name, each (n,); NaN for an image
            that is void.
    """

    data: str
    rows: dict[str, Row]
    correct: dict[str, np.ndarray]

    def __str__(self) -> str:
        width = max(map(len, self.rows))
        segments = self.rows["clean"].mean_iou is not None
        iou = "  mean IoU" if segments else ""
        lines = [
            f"Robustness on {self.data}",
            f"{'':{width}}  accuracy  95% interval{iou}     loss  images",
        ]
        for name, row in self.rows.items():
            iou = f"  {row.mean_iou:8.3f}" if segments else ""
            interval = f"{100 * row.low:5.1f}-{100 * row.high:5.1f}%"
            lines.append(
                f"{name:{width}}  {100 * row.accuracy:7.2f}%  {interval}{iou}"
                f"  {row.loss:7.4g}  {row.n:6d}"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The name of the data, and each line's figures."""
        rows = {name: asdict(row) for name, row in self.rows.items()}
        return {"data": self.data, "rows": rows}

    def _figures(self) -> dict[str, Figure]:
        """The accuracies: dots with their intervals; crosses are mean IoU."""
        figure = Figure(figsize=(6, 1 + 0.25 * len(self.rows)), layout="constrained")
        axis = figure.subplots()
        parts = list(dict.fromkeys(name.split("/")[0] for name in self.rows))
        for place, (name, row) in enumerate(self.rows.items()):
            colour = plots.COLOURS[parts.index(name.split("/")[0])]
            axis.plot((row.low, row.high), (place, place), color=colour, lw=1.5)
            axis.plot(row.accuracy, place, "o", color=colour, ms=5)
            if row.mean_iou is not None:
                axis.plot(row.mean_iou, place, "x", color=colour, ms=5)
        axis.set_yticks(range(len(self.rows)), self.rows)
        label = "accuracy" if row.mean_iou is None else "accuracy, x: mean IoU"
        axis.set(xlim=(-0.02, 1.02), xlabel=label, title=self.data)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
        return {"robustness": figure}


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a mean of n independent numbers in [0, 1].

    Of zeros and ones it is the usual one; of others it is wider than it need be,
    because no numbers in [0, 1] of that mean vary more.
    """
    z2 = 1.959964**2
    middle = share + z2 / (2 * n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2)))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return float(max(low, 0.0)), float(min(high, 1.0))


class Check(NamedTuple):
    """One check.

    Attributes:
        name: What should hold.
        passed: Whether it does.
        figures: What was measured.
        meaning: What a failure usually means.
    """

    name: str
    passed: bool
    figures: dict[str, float]
    meaning: str

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {v:.3g}" for name, v in self.figures.items())
        line = f"{'passed' if self.passed else 'FAILED'}  {self.name}: {figures}"
        return line if self.passed else f"{line}\n        {self.meaning}"


@dataclass(frozen=True)
class SanityReport(Report):
    """What `sanity_checks` found.

    Attributes:
        checks: One entry for each check.
        accuracy: Robust accuracy under each attack by its name, at each radius.
        radii: Radii of the attacks.
        n: Number of images.
    """

    checks: tuple[Check, ...]
    accuracy: dict[str, list[float]]
    radii: list[float]
    n: int

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that did not pass."""
        return [check.name for check in self.checks if not check.passed]

    def __str__(self) -> str:
        width = max(map(len, self.accuracy))
        radii = "".join(f"{radius:8.3g}" for radius in self.radii)
        lines = [f"{f'Accuracy of {self.n} images at radius':{width}}{radii}"]
        width = len(lines[0]) - len(radii)
        for name, values in self.accuracy.items():
            numbers = "".join(f"{100 * value:7.1f}%" for value in values)
            lines.append(f"{name:{width}}{numbers}")
        count = len(self.checks) - len(self.failed)
        lines.append(f"{count} of {len(self.checks)} checks passed")
        return "\n".join([*lines, *map(str, self.checks)])

    def to_dict(self) -> dict[str, Any]:
        """Each check, and the accuracies under each attack."""
        return {
            "checks": [check._asdict() for check in self.checks],
            "accuracy": self.accuracy,
            "radii": self.radii,
            "n": self.n,
        }

    def _figures(self) -> dict[str, Figure]:
        """The accuracy under each attack over the radius."""
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axis = figure.subplots()
        for colour, (name, values) in zip(
            plots.COLOURS, self.accuracy.items(), strict=False
        ):
            axis.plot(self.radii, values, "o-", color=colour, ms=4, label=name)
        axis.set(xlabel="radius", ylabel="accuracy", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
        return {"accuracies": figure}
