"""What evaluations report: tables of accuracies, and checks that passed or failed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lps_tf import plots
from lps_tf._internal import files


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        accuracy: share of right answers, of a segmenter of right pixels.
        low: lower end of the 95% interval (Wilson) of the accuracy.
        high: upper end of it. Pixels of one image stand or fall together: the
            interval of a segmenter counts images, and is wider than it need be.
        n: number of images.
        loss: mean cross-entropy. Attacks do not push on what is already wrong.
        mean_iou: of a segmenter, intersection over union of label and answer over
            the whole data set, mean over the classes that are in either.
    """

    accuracy: float
    low: float
    high: float
    n: int
    loss: float
    mean_iou: float | None

    @classmethod
    def of(cls, loss: np.ndarray, right: np.ndarray, iou: float | None) -> "Row":
        """The line of losses and right answers, each (n,)."""
        accuracy, n = float(right.mean()), len(right)
        return cls(accuracy, *wilson_interval(accuracy, n), n, float(loss.mean()), iou)


@dataclass
class RobustnessReport:
    """What `evaluate_robustness` found.

    Attributes:
        data: name of the data set.
        rows: the lines by name: "clean"; "perturbed/NAME" for each version of the
            test images, "perturbed/mean" of them and "perturbed/worst" of each
            image; the same with "unseen" for perturbations that no training data
            has; "attack/RADIUS" for each radius.
        right: what the accuracies are means of, by name, each (n,).
    """

    data: str
    rows: dict[str, Row]
    right: dict[str, np.ndarray]

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

    def to_json(self, path: str | Path | None = None) -> str:
        """The table as JSON; written to `path` if one is given."""
        rows = {name: asdict(row) for name, row in self.rows.items()}
        text = json.dumps({"data": self.data, "rows": rows}, indent=1)
        if path is not None:
            files.write_text(path, text + "\n")
        return text

    def plot(self, path: str | Path | None = None) -> Figure:
        """A picture of the accuracies; saved as PNG if a path is given.

        Dots are accuracies with their intervals; crosses, of a segmenter, mean IoU.
        """
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
        if path is not None:
            files.write(path, plots.png(figure))
        return figure


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
        name: what should hold.
        passed: whether it does.
        figures: what was measured.
        meaning: what a failure usually means.
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
class SanityReport:
    """What `sanity_checks` found.

    Attributes:
        checks: the checks.
        accuracy: robust accuracy under each attack by its name, at each radius.
        radii: the radii.
        n: number of images.
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
