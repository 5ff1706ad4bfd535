"""What a perturbation has to have, and how a plain function becomes one."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import tensorflow as tf

from lps_tf._internal.outputs import Classifier


@runtime_checkable
class Perturbation(Protocol):
    """What to do to a batch of images in training and evaluation."""

    @property
    def adversarial(self) -> bool:
        """Whether it looks for what is wrong.

        Then training is on the worse of the clean and the perturbed loss, otherwise on
        the perturbed loss alone.
        """
        ...

    @property
    def num_samples(self) -> int:
        """Perturbed versions of each image; several have an axis in front."""
        ...

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
        /,
    ) -> tf.Tensor:
        """Perturbed images, of the shape of x or (num_samples, *shape of x).

        Args:
            classifier: Classifier or segmenter.
            x: Images, (batch, height, width, channels).
            y: Labels, int64, -1 where void; or probabilities of the shape of the
                logits, from which the prediction is to be moved away.
            key: Key of the call's random numbers, two int32.
        """
        ...


#: (classifier, x, y) -> perturbed x.
Function = Callable[[Classifier, tf.Tensor, tf.Tensor], tf.Tensor]


class FunctionPerturbation:
    """A plain function (classifier, x, y) -> perturbed x as a perturbation."""

    adversarial = False
    num_samples = 1

    def __init__(self, function: Function):
        self.function = function

    def __call__(
        self,
        classifier: Classifier,
        x: tf.Tensor,
        y: tf.Tensor,
        key: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """What the function gives; it has no use for the key."""
        return self.function(classifier, x, y)


def as_perturbation(value: "Perturbation | Function") -> Perturbation:
    """A perturbation, or a plain function made one.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, Perturbation):
        return value
    # One that says `adversarial` alone would be trained on as if it were not.
    parts = [name for name in ("adversarial", "num_samples") if hasattr(value, name)]
    if not callable(value) or parts:
        raise ValueError(
            "A perturbation must have `adversarial` and `num_samples` and a call "
            "(classifier, x, y, key), as those in `lps_tf.perturbations`, or be a "
            "function (classifier, x, y) -> perturbed x. "
            f"Received: {value!r}, which has {parts or 'neither'}"
        )
    return FunctionPerturbation(value)
