"""What evaluations report: tables of accuracies, and checks that passed or failed."""

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lps_tf._internal import drawing
from lps_tf._internal.report import Report
from lps_tf.robustness.scores import calibration_error


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
        calibration_error: Expected calibration error, in [0, 1]; of a mean over
            versions, that of all of their predictions. None where only the worst
            prediction of several is known, as of a classifier under attack.
    """

    accuracy: float
    low: float
    high: float
    n: int
    loss: float
    mean_iou: float | None
    calibration_error: float | None

    @classmethod
    def of(
        cls,
        loss: np.ndarray,
        correct: np.ndarray,
        iou: float | None,
        calibration: np.ndarray,
    ) -> "Row":
        """The line of some images.

        Args:
            loss: Losses, (n,).
            correct: Correct predictions, (n,); NaN where void.
            iou: Mean intersection over union, None of a classifier.
            calibration: Predictions by confidence; see `Scores`, (BINS, 2).
        """
        labelled = ~np.isnan(correct)
        n = int(labelled.sum())
        if not n:
            raise ValueError("Every pixel of every image is void: nothing to count.")
        accuracy, mean_loss = (
            float(correct[labelled].mean()),
            float(loss[labelled].mean()),
        )
        low, high = wilson_interval(accuracy, n)
        error = calibration_error(calibration)
        return cls(accuracy, low, high, n, mean_loss, iou, error)

    def shown_calibration(self) -> str:
        """The calibration error as tables show it."""
        error = self.calibration_error
        return "-" if error is None else f"{error:.3f}"


@dataclass(frozen=True)
class RobustnessReport(Report):
    """What `evaluate_robustness` found.

    Attributes:
        data: Name of the data set.
        rows: Lines by name: "clean"; "perturbed/NAME" for each version of the
            test images, "perturbed/mean" of them and "perturbed/worst" of each
            image; "grid/mean" and "grid/worst" of a grid over the perturbation's
            parameters; the same as "perturbed" with "unseen" for perturbations that no
            training data has; "attack/RADIUS" for each radius.
        correct: What the accuracies are means of, by name, each (n,); NaN for an image
            that is void.
        found_by: Numbers of images by what misclassified them, for each "attack/RADIUS"
            by name of the attack that did so first; "clean" needed no perturbation. Of
            a segmenter, by what left fewest pixels correct.
    """

    data: str
    rows: dict[str, Row]
    correct: dict[str, np.ndarray]
    found_by: dict[str, dict[str, int]]

    def summary(self) -> str:
        """The accuracies that matter most, in sentences."""
        return summary_of({name: asdict(row) for name, row in self.rows.items()})

    def __str__(self) -> str:
        width = max(map(len, self.rows))
        segments = self.rows["clean"].mean_iou is not None
        iou = "  mean IoU" if segments else ""
        lines = [
            f"Robustness on {self.data}",
            *textwrap.wrap(self.summary(), 79),
            "",
            f"{'':{width}}  accuracy  95% interval{iou}     loss    ECE  images",
        ]
        for name, row in self.rows.items():
            iou = f"  {row.mean_iou:8.3f}" if segments else ""
            interval = f"{100 * row.low:5.1f}-{100 * row.high:5.1f}%"
            lines.append(
                f"{name:{width}}  {100 * row.accuracy:7.2f}%  {interval}{iou}"
                f"  {row.loss:7.4g}  {row.shown_calibration():>5}  {row.n:6d}"
            )
        for name, *counts in self._counts():
            cells = "".join(f"  {count:>14}" for count in counts)
            lines.append(f"{name:{width}}{cells}")
        return "\n".join(lines)

    def _counts(self) -> list[list[str]]:
        """The table of what found how many images, with its head; or nothing."""
        if not self.found_by:
            return []
        names = list(dict.fromkeys(n for by in self.found_by.values() for n in by))
        lines = [
            [line, *(str(by.get(name, 0)) for name in names)]
            for line, by in self.found_by.items()
        ]
        return [["found by", *names], *lines]

    def _tables(self) -> list[list[list[str]]]:
        segments = self.rows["clean"].mean_iou is not None
        head = [self.data, "accuracy", "95% interval", "loss"]
        head += ["calibration error", "images"]
        lines = []
        for name, row in self.rows.items():
            interval = f"{100 * row.low:.1f}-{100 * row.high:.1f}%"
            line = [name, f"{100 * row.accuracy:.2f}%", interval]
            line += [f"{row.mean_iou:.3f}"] if row.mean_iou is not None else []
            line += [f"{row.loss:.4g}", row.shown_calibration(), str(row.n)]
            lines.append(line)
        table = [head[:3] + ["mean IoU"] * segments + head[3:], *lines]
        return [table, self._counts()] if self.found_by else [table]

    def to_dict(self) -> dict[str, Any]:
        """The name of the data, each line's figures, and which attack found what."""
        rows = {name: asdict(row) for name, row in self.rows.items()}
        return {"data": self.data, "rows": rows, "found_by": self.found_by}

    def _figures(self) -> dict[str, Figure]:
        """The accuracies: dots with their intervals; crosses are mean IoU."""
        figure = Figure(figsize=(6, 1 + 0.25 * len(self.rows)), layout="constrained")
        axis = figure.subplots()
        parts = list(dict.fromkeys(name.split("/")[0] for name in self.rows))
        for place, (name, row) in enumerate(self.rows.items()):
            colour = drawing.COLOURS[parts.index(name.split("/")[0])]
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


def summary_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What came out, in sentences, of the lines of a robustness report.

    Args:
        rows: What `RobustnessReport.to_dict` has as "rows".
    """
    share = {name: f"{row['accuracy']:.1%}" for name, row in rows.items()}
    segments = rows["clean"]["mean_iou"] is not None
    what = "of pixels are classified" if segments else "are classified"
    text = f"Of {rows['clean']['n']} images, {share['clean']} {what} correctly"
    if "perturbed/mean" in rows:
        text += (
            f"; truly perturbed, {share['perturbed/mean']} on average and "
            f"{share['perturbed/worst']} at the worst of each image's versions"
        )
    attacks = [name for name in rows if name.startswith("attack/")]
    if attacks:
        ends = dict.fromkeys((attacks[0], attacks[-1]))
        parts = (f"{share[end]} within radius {float(end[7:]):.3g}" for end in ends)
        text += f". Under attack, {' and '.join(parts)} remain"
    return f"{text}."


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
            drawing.COLOURS, self.accuracy.items(), strict=False
        ):
            axis.plot(self.radii, values, "o-", color=colour, ms=4, label=name)
        axis.set(xlabel="radius", ylabel="accuracy", ylim=(-0.02, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
        return {"accuracies": figure}
