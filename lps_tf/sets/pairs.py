"""Pairs of images as measurements of a set go through them."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from lps_tf._internal import checks, inputs
from lps_tf.sets.conditional_vae import ConditionalVAE

# Pairs in a batch of arrays; data sets have batches of their own.
_BATCH = 32


class Pairs:
    """Batches (x, x_perturbed) of a user's data, as float32 and checked.

    Args:
        model: Set that the images are to suit.
        pairs: Whatever `fit` takes, such as a tf.data.Dataset of batches
            (x, x_perturbed), or the two arrays in a tuple.
        x_perturbed: Array x_perturbed if `pairs` is the array x.
    """

    def __init__(self, model: ConditionalVAE, pairs: Any, x_perturbed: Any = None):
        self._model, self._pairs, self._x_perturbed = model, pairs, x_perturbed

    def __length_hint__(self) -> int:
        """Number of batches for a bar of progress, 0 if it is not known."""
        if isinstance(self._pairs, tf.data.Dataset):
            return max(0, int(self._pairs.cardinality()))
        arrays = self._pairs if isinstance(self._pairs, tuple) else (self._pairs,)
        return -(-len(arrays[0]) // _BATCH) if hasattr(arrays[0], "shape") else 0

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        """The batches.

        Raises:
            ValueError: If there is no pair or no end of them, or a batch is not pairs
                of equal images of the set's shape.
        """
        empty = True
        batches = inputs.batches(self._pairs, self._x_perturbed, _BATCH)
        for x, x_perturbed in batches:
            empty = False
            x = self._model.checked_images("x", x)
            x_perturbed = self._model.checked_images("x_perturbed", x_perturbed)
            checks.same_shape("x", x, "x_perturbed", x_perturbed)
            yield x, x_perturbed
        if empty:
            raise ValueError("There are no pairs: the data set is empty.")
