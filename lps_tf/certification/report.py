"""What a folder of certificates amounts to: rates, curves, a table and a picture."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lps_tf._internal import drawing
from lps_tf._internal.checks import VOID
from lps_tf._internal.report import Report
from lps_tf.certification import ellipsoids
from lps_tf.certification.blocks import Blocks
from lps_tf.certification.certificate import ABSTAIN
from lps_tf.certification.coverage import Coverage, rows, summarise

#: Certified radii to ask for, in standardised latent units.
Radii = Sequence[float] | np.ndarray

_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))

#: What certificates are about, by whether the set is resolvable.
_SUBJECTS = {
    False: "the image given, taken to be clean",
    True: "the image given, and the clean one if it is perturbed",
}


@dataclass(frozen=True)
class CertificationReport(Report):
    """The certificates of a data set. See `lps_tf.certification` for what they say.

    Of a segmenter every rate is a rate of pixels. Void labels count in none.

    Attributes:
        settings: What the certificates depend on, as in settings.json.
        index: Index of each image in the data set, int64 (images,).
        labels: True classes, (images,) or (images, height, width); -1 where void.
        prediction: Smoothed predictions, of the shape of the labels, -1 where it
            abstains.
        radius: Certified radii, of the shape of the labels, 0 where it abstains. Of
            noise with a sigma for each dimension, those of the largest balls in the
            certified ellipsoids.
        samples: Number of noise samples spent on each image, (images,).
        norms: Latent norms of true perturbations of each image, as `ellipsoids.norm`
            has them, (images, count); None if they were not given.
        perturbed_correct: Where the base classifier gets them right, (images, count)
            or (images, count, height, width); None if they were not given.
    """

    settings: dict
    index: np.ndarray
    labels: np.ndarray
    prediction: np.ndarray
    radius: np.ndarray
    samples: np.ndarray
    norms: np.ndarray | None = None
    perturbed_correct: np.ndarray | None = None

    @classmethod
    def load(cls, path: str | Path) -> "CertificationReport":
        """The report that `to_json` has written, or that of a folder of certificates.

        A folder need not be finished: `images` says how many there are.

        Args:
            path: File, or folder that `certify_dataset` has written.

        Raises:
            ValueError: If it holds no report, or no image is certified yet.
        """
        if Path(path).is_file():
            return super().load(path)
        blocks = Blocks(path)
        read = (blocks.read(k) for k in range(blocks.count))
        there = [block for block in read if block is not None]
        if not there:
            raise ValueError(f"No image is certified in {path} yet.")
        names = ["index", "labels", "prediction", "radius", "samples"]
        names += [k for k in Blocks.MEASURED if all(k in block for block in there)]
        arrays = {name: np.concatenate([b[name] for b in there]) for name in names}
        return cls(blocks.settings, **arrays)

    @property
    def images(self) -> int:
        """How many images are certified; `settings["images"]` are to be."""
        return len(self.index)

    @property
    def resolvable(self) -> bool:
        """Whether they hold for the clean image too if the one given is perturbed.

        Otherwise they are about perturbations of the image given, which has to be the
        clean one; see `SmoothedClassifier`.
        """
        return self.settings.get("resolvable", False)

    @property
    def segmentation(self) -> bool:
        """Whether the predictions are maps of classes."""
        return self.labels.ndim > 1

    @property
    def valid(self) -> np.ndarray:
        """Where the label is a class and not void, of the shape of the labels."""
        return self.labels != VOID

    @property
    def correct(self) -> np.ndarray:
        """Where the smoothed prediction is the label, of the shape of the labels."""
        return (self.prediction == self.labels) & self.valid

    @property
    def accuracy(self) -> float:
        """Rate of correct smoothed predictions on unperturbed images."""
        return self._mean(self.correct)

    @property
    def abstained(self) -> float:
        """Rate of abstentions. What neither abstains nor is correct is wrong."""
        return self._mean(self.prediction == ABSTAIN)

    @property
    def acr(self) -> float:
        """Average certified radius; 0 counts where it is wrong or abstains."""
        return self._mean(self.radius * self.correct)

    def _mean(self, values: np.ndarray) -> float:
        """The mean over labels that are not void; NaN if all are."""
        valid = values[self.valid]
        return float(valid.mean()) if valid.size else float("nan")

    @property
    def coverage(self) -> Coverage | None:
        """How many true perturbations lie inside; None if none were given."""
        if self.norms is None or self.perturbed_correct is None:
            return None
        return summarise(
            self.norms, self.perturbed_correct, self.radius, self.correct, self.valid
        )

    @property
    def mean_samples(self) -> float:
        """Mean number of samples an image, those of the selection among them."""
        return float(self.samples.mean())

    @property
    def largest_radius(self) -> float:
        """The largest radius certified for a correct prediction, 0 if none is."""
        return float((self.radius * self.correct).max())

    @property
    def radii(self) -> np.ndarray:
        """Eleven radii from 0 to the largest certified one; only 0 if none is."""
        largest = self.largest_radius
        return np.linspace(0, largest, 11) if largest > 0 else np.zeros(1)

    def certified_accuracy(self, radii: Radii | None = None) -> np.ndarray:
        """Rate of predictions that are correct and certified up to each radius.

        Args:
            radii: Radii in standardised latent units, any shape; default `radii`.

        Returns:
            Rates, float64 of the shape of the radii; at radius 0 the accuracy.
        """
        asked = np.asarray(self.radii if radii is None else radii, np.float64)
        certified = np.sort(self.radius[self.correct])
        beyond = len(certified) - np.searchsorted(certified, asked, side="left")
        return beyond / max(self.valid.sum(), 1)

    def certified_mean_iou(self, radii: Radii | None = None) -> np.ndarray:
        """The least mean IoU that any perturbation up to each radius may leave.

        Pixels certified up to the radius keep their class; the others may take any,
        and are given the classes for which the mean over classes with labels, taken
        over all images, is the smallest. So it is a lower bound, and far below the
        IoU of unperturbed images where many pixels are not certified. It takes all
        pixels of an image to be correct together, which the correction "none" does
        not provide for.

        Args:
            radii: Radii in standardised latent units, (count,); default `radii`.

        Returns:
            Bounds, float64 (count,).

        Raises:
            ValueError: If the labels are no maps.
        """
        if not self.segmentation:
            raise ValueError(
                "A mean IoU needs labels that are maps. "
                f"Received: labels of shape {self.labels.shape}"
            )
        asked = self.radii if radii is None else radii
        return np.array([self._least_mean_iou(radius) for radius in asked])

    def _least_mean_iou(self, radius: float) -> float:
        valid, sure = self.valid, (self.radius >= radius) & (self.prediction != ABSTAIN)
        labelled = np.bincount(self.labels[valid])
        num_classes = len(labelled)

        def count(classes_there: np.ndarray) -> np.ndarray:
            return np.bincount(classes_there, minlength=num_classes)[:num_classes]

        kept = count(self.labels[sure & self.correct])
        union = labelled + count(self.prediction[sure & valid]) - kept
        free = (valid & ~sure).sum()
        return _least(kept[labelled > 0], union[labelled > 0], free)

    def _sigma(self) -> str:
        sigma = np.array(self.settings["sigma"])
        if not sigma.ndim:
            return f"{sigma:g}"
        return f"{sigma.min():g} to {sigma.max():g} along {sigma.size} dimensions"

    def _rates(self) -> dict[str, str]:
        """Lines of the first table: what is told, and the value."""
        things = "pixels" if self.segmentation else "images"
        s = self.settings
        table = {
            "images": f"{self.images} of {s['images']}",
            "sigma": self._sigma(),
            "probability of a wrong certificate, an image": f"{s['alpha']:g}",
            "certificates hold for": _SUBJECTS[self.resolvable],
            f"correct, rate of {things}": f"{self.accuracy:.4f}",
            f"abstained, rate of {things}": f"{self.abstained:.4f}",
            "average certified radius (ACR)": f"{self.acr:.4f}",
            "samples an image": f"{self.mean_samples:.0f}",
        }
        if np.ndim(s["sigma"]):
            larger = ellipsoids.equivalent_radius(1.0, np.array(s["sigma"]))
            table["radius of equal volume, of a radius"] = f"{larger:.4g}"
        found = self.coverage
        return table | ({} if found is None else rows(found))

    def summary(self) -> str:
        """The rates that matter most, in sentences."""
        things = "the pixels of " if self.segmentation else ""
        text = f"Of {things}{self.images} images"
        text += f", {self.accuracy:.1%} are classified correctly by the smoothed model"
        if self.largest_radius > 0:
            middle = self.largest_radius / 2
            certified = float(self.certified_accuracy(np.array(middle)))
            text += (
                f", and {certified:.1%} are certain to stay so within latent radius "
                f"{middle:.3g}"
            )
        found = self.coverage
        if found is not None:
            text += (
                f". Of their true perturbations, {found.inside:.1%} lie inside of a "
                "certificate of the right class"
            )
        return f"{text}."

    def __str__(self) -> str:
        table = self._rates()
        width = max(map(len, table))
        lines = [*textwrap.wrap(self.summary(), 79), ""]
        lines += [f"{name:{width}}  {value}" for name, value in table.items()]
        columns = self._curves(self.radii)
        head = ["radius", *columns]
        lines += ["", "  ".join(head)]
        for radius, *values in zip(self.radii, *columns.values(), strict=True):
            cells = [f"{radius:6.3f}", *(f"{value:.4f}" for value in values)]
            lines.append(
                "  ".join(f"{c:>{len(h)}}" for h, c in zip(head, cells, strict=True))
            )
        return "\n".join(lines)

    def _tables(self) -> list[list[list[str]]]:
        rates = [["rate", "value"], *([k, v] for k, v in self._rates().items())]
        columns = self._curves(self.radii)
        points = zip(self.radii, *columns.values(), strict=True)
        lines = [[f"{r:.3f}", *(f"{v:.4f}" for v in values)] for r, *values in points]
        return [rates, [["radius", *columns], *lines]]

    def _curves(self, radii: Radii) -> dict[str, np.ndarray]:
        curves = {"certified accuracy": self.certified_accuracy(radii)}
        if self.segmentation:
            curves["certified mean IoU"] = self.certified_mean_iou(radii)
        return curves

    def to_dict(self, radii: Radii | None = None) -> dict[str, Any]:
        """The rates and curves by name.

        Args:
            radii: Radii of the curves, in standardised latent units; default `radii`.
        """
        asked = np.asarray(self.radii if radii is None else radii, np.float64)
        curves, found = self._curves(asked).items(), self.coverage
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "abstained": self.abstained,
            "average_certified_radius": self.acr,
            "mean_samples": self.mean_samples,
            "coverage": None if found is None else found._asdict(),
            "radii": asked.tolist(),
            **{k.lower().replace(" ", "_"): v.tolist() for k, v in curves},
            "settings": self.settings,
        }

    def _figures(self) -> dict[str, Figure]:
        radii, s = fine_radii(self.largest_radius), self.settings
        curves = self._curves(radii)
        figure = certified_curves(radii, curves, " / ".join(curves))
        figure.axes[0].set_title(
            f"sigma {self._sigma()}, alpha {s['alpha']:g}, {self.images} images",
            fontsize=9,
        )
        return {"certified": figure}


def fine_radii(largest: float) -> np.ndarray:
    """Radii for a picture, from 0 to a little beyond the largest certified one."""
    return np.linspace(0, 1.05 * largest or 1.0, 101)


def certified_curves(
    radii: Radii, lines: Mapping[str, Any], ylabel: str = "certified accuracy"
) -> Figure:
    """A picture of rates over the radius, told apart by colour and line style."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for i, (name, rates) in enumerate(lines.items()):
        colour = drawing.COLOURS[i % len(drawing.COLOURS)]
        axis.plot(
            radii, rates, color=colour, ls=_STYLES[i % len(_STYLES)], lw=1.8, label=name
        )
    axis.set(xlabel="certified latent radius", ylabel=ylabel, ylim=(-0.02, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


def _least(kept: np.ndarray, union: np.ndarray, free: int) -> float:
    """The least mean of kept / (union + extra) with extra >= 0 of sum `free`.

    Each summand is convex in its extra, so at the minimum their slopes are equal
    wherever extra is positive: union + extra = max(union, t sqrt(kept)). The sum of
    the extras then is the largest of `t sum(sqrt(kept)) - sum(union)` over all sets
    of classes, and only sets that t reaches first need looking at.
    """
    there = kept > 0
    root, union = np.sqrt(kept[there]), union[there]
    if not len(root):
        return 0.0
    first = np.argsort(union / root)
    t = ((free + np.cumsum(union[first])) / np.cumsum(root[first])).min()
    return float((root**2 / np.maximum(union, t * root)).sum() / len(kept))
