"""Several certifications of one data set side by side: which sigma for which radius."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lps_tf._internal.report import Report
from lps_tf.certification.report import (
    CertificationReport,
    Radii,
    certified_curves,
    fine_radii,
)


@dataclass(frozen=True)
class Comparison(Report):
    """Certified accuracies of several reports; `str()` is a table, `plot()` a picture.

    Attributes:
        reports: Reports by name.
        radii: Radii of the table, (radii,).
        accuracy: Certified accuracy of each report at the radii, each (radii,).
        best: For each radius the names with the largest accuracy, empty where it is
            zero. Whoever picks a sigma by it has looked at these very images.
    """

    reports: dict[str, CertificationReport]
    radii: np.ndarray
    accuracy: dict[str, np.ndarray]
    best: list[tuple[str, ...]]

    def __str__(self) -> str:
        widths = {name: max(len(name), 6) for name in self.reports}

        def line(first: str, cells: Sequence[str], last: str = "") -> str:
            cells = [f"{c:>{w}}" for c, w in zip(cells, widths.values(), strict=True)]
            return "  ".join([f"{first:>6}", *cells, last]).rstrip()

        lines = [line("radius", list(self.reports), "best")]
        for i, radius in enumerate(self.radii):
            cells = [f"{values[i]:.4f}" for values in self.accuracy.values()]
            lines.append(line(f"{radius:.3f}", cells, ", ".join(self.best[i])))
        acr = [f"{report.acr:.4f}" for report in self.reports.values()]
        return "\n".join([*lines, line("ACR", acr)])

    def to_dict(self) -> dict[str, Any]:
        """The table by name, and the average certified radius of each report."""
        return {
            "radii": self.radii.tolist(),
            "accuracy": {name: rates.tolist() for name, rates in self.accuracy.items()},
            "best": [list(names) for names in self.best],
            "average_certified_radius": {n: r.acr for n, r in self.reports.items()},
        }

    def _figures(self) -> dict[str, Figure]:
        radii = fine_radii(max(r.largest_radius for r in self.reports.values()))
        lines = {n: r.certified_accuracy(radii) for n, r in self.reports.items()}
        return {"certified": certified_curves(radii, lines)}


def compare(
    reports: Mapping[str, CertificationReport], radii: Radii | None = None
) -> Comparison:
    """Compares certifications of the same images, such as those of several sigmas.

    Args:
        reports: Reports by the name to show, such as "sigma 0.84".
        radii: Radii of the table; default eleven from 0 to the largest certified by
            any.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If there is no report, or they are not of the same images.
    """
    reports = dict(reports)
    if not reports:
        raise ValueError("There is nothing to compare. Received: reports={}")
    first = next(iter(reports.values()))
    for name, report in reports.items():
        same = report.settings["data"] == first.settings["data"]
        if not (same and np.array_equal(report.index, first.index)):
            raise ValueError(
                "Only reports of the same images can be compared. "
                f"{name!r} has other images than {next(iter(reports))!r}."
            )
    if radii is None:
        radii = max(reports.values(), key=lambda r: r.largest_radius).radii
    asked = np.asarray(radii, np.float64)
    accuracy = {name: r.certified_accuracy(asked) for name, r in reports.items()}
    top = np.max(list(accuracy.values()), 0)
    best = [
        tuple(n for n, values in accuracy.items() if values[i] == top[i] > 0)
        for i in range(len(asked))
    ]
    return Comparison(reports, asked, accuracy, best)
