"""What a classifier, smoothed or not, says of the members of a set."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks, outputs
from lps_tf.certification.smoothing import SmoothedClassifier
from lps_tf.perturbations import LatentAPGD
from lps_tf.plots.members import Members
from lps_tf.sets import latent
from lps_tf.sets.protocol import LatentSet

# Cells of the map of answers from one member of the grid to the next.
_FINER = 3
# Noise samples behind an answer of a smoothed classifier, and those of a certificate.
_SAMPLES = 64
_CERTIFICATE: dict[str, Any] = {"n0": 100, "n": 1000, "alpha": 1e-3}


class Answers:
    """What a classifier, smoothed or not, says of members.

    Args:
        classifier: Classifier of such images, or `SmoothedClassifier`.
        perturbation_set: Set whose members they are.
        images: Images, (count, height, width, channels).

    Raises:
        ValueError: For a segmenter, or one smoothed in the latent of another set.
    """

    def __init__(
        self,
        classifier: outputs.Classifier | SmoothedClassifier,
        perturbation_set: LatentSet,
        images: np.ndarray,
    ):
        self._smoothed: SmoothedClassifier | None = None
        if isinstance(classifier, SmoothedClassifier):
            self._smoothed, classifier = classifier, classifier.classifier
        self._base = outputs.required(classifier)
        shape = outputs.logits(self._base, tf.constant(images[:1])).shape
        if shape.rank != 2:
            raise ValueError(
                "`classifier` must give one class an image: the map has no room for "
                f"those of pixels. Received: logits of shape {tuple(shape)}"
            )
        self.num_classes = int(shape[-1])
        self.noise = None
        if self._smoothed is not None:
            if self._smoothed.perturbation_set.digest() != perturbation_set.digest():
                raise ValueError(
                    "`classifier` must be smoothed in the latent of the very set that "
                    "the page shows. Received: a SmoothedClassifier of another set"
                )
            if np.ndim(self._smoothed.sigma):
                raise ValueError(
                    "The page shows certified balls, of one sigma. Received: a "
                    "SmoothedClassifier with a sigma for each latent dimension"
                )
            # The same noise everywhere: what differs then is the place.
            dim = perturbation_set.latent_dim
            noise = latent.standard_normal((_SAMPLES, dim), tf.constant([0, 0]))
            self.noise = self._smoothed.sigma * noise.numpy()

    def facts(self) -> dict[str, Any]:
        """What the page says of the classifier as a whole."""
        if self._smoothed is None:
            return {"sigma": None}
        return {
            "sigma": self._smoothed.sigma,
            "samples": _SAMPLES,
            **_CERTIFICATE,
        }

    def side(self, size: int) -> int:
        """Side of the map of answers over a grid of members."""
        # Answers under noise cost as much as _SAMPLES others.
        return _FINER * (size - 1) + 1 if self.noise is None else size

    def classes(self, images: np.ndarray) -> np.ndarray:
        """The class of each image without noise, (count,)."""
        return outputs.logits(self._base, tf.constant(images)).numpy().argmax(-1)

    def without_noise(self, members: Members, u: np.ndarray) -> np.ndarray:
        """The class of the member at each latent without noise, (count,)."""
        return np.concatenate(
            [self.classes(members(u[part])) for part in _parts(len(u))]
        )

    def __call__(self, members: Members, u: np.ndarray) -> np.ndarray:
        """The class of the member at each latent (count, latent_dim)."""
        if self.noise is None:
            return self.without_noise(members, u)
        around = u[:, None] + self.noise  # (count, samples, latent_dim)
        found = self.without_noise(members, around.reshape(-1, u.shape[1]))
        votes = found.reshape(len(u), -1, 1) == np.arange(self.num_classes)
        return votes.sum(1).argmax(-1)

    def of_images(
        self, attack: LatentAPGD, images: np.ndarray, labels: Any
    ) -> tuple[list[dict], list[np.ndarray]]:
        """Label, answer and certificate of each image, and its worst latents."""
        answers = self.classes(images)
        if labels is None:
            targets = answers.astype(np.int64)
        else:
            targets = checks.labels(labels, self.num_classes).numpy()
        found = attack.run(self._base, images, targets)  # checks the number of labels
        facts: list[dict[str, Any]] = [
            {
                "label": None if labels is None else int(target),
                "answer": int(answer),
                "misclassified": bool(success),
            }
            for target, answer, success in zip(
                targets, answers, found.success[0], strict=True
            )
        ]
        if self._smoothed is not None:
            certificate = self._smoothed.certify(images, **_CERTIFICATE, verbose=False)
            for fact, prediction, certified in zip(
                facts, certificate.prediction, certificate.radius, strict=True
            ):
                fact["certified"] = [int(prediction), float(certified)]
        return facts, list(found.u[0])


def _parts(count: int, size: int = 1024) -> Iterator[slice]:
    """Slices of so many things: their images are not all held at once."""
    return (slice(start, start + size) for start in range(0, count, size))
