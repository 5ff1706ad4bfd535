"""Pipelines of sources whose perturbations can be drawn at will."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.datasets.base import PairData, even_batch
from lps_tf.datasets.pipelines.pairing import keys

#: Perturbs a batch: (images (batch, h, w, c), key (2,)) -> images.
Perturb = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# Where the second numbers of the keys start: the draws of the splits differ.
_TRAIN, _VALIDATION, _TEST, _GROUPS = 0, 1_000_000, 2_000_000, 3_000_000


@dataclass(frozen=True)
class Split:
    """Images (n, h, w, c) in [0, 1] with labels (n,)."""

    images: np.ndarray
    labels: np.ndarray


def pair_data(
    name: str,
    train: Split,
    val: Split,
    test: Split,
    perturb: Perturb,
    *,
    batch_size: int,
    limited: int | None,
    num_samples: int,
    group_size: int,
    seed: int,
) -> PairData:
    """Builds the pipelines of a source whose perturbations can be drawn at will.

    Args:
        name: Name of the source, shown in every report.
        train: Images to train on; so with val and test.
        val: Images to validate and calibrate on.
        test: Images to report on.
        perturb: Draws one perturbation of each image of a batch.
        batch_size: Size of training batches; incomplete ones are dropped, so that
            every step has one shape.
        limited: Number of fixed perturbed versions of each training image; None draws
            others in each epoch.
        num_samples: Number of fixed perturbed versions of each validation and test
            image.
        group_size: Number of perturbed versions in `test_groups`.
        seed: Seed of everything random. The order of training batches and fresh draws
            depend on TensorFlow's global seed as well: `keras.utils.set_random_seed`.

    Raises:
        ValueError: For a number that is too small, or a batch size beyond the
            training data.
    """
    batch_size = checks.count("batch_size", batch_size)
    num_samples = checks.count("num_samples", num_samples)
    group_size = checks.count("group_size", group_size)
    if batch_size > len(train.images):
        raise ValueError(
            "`batch_size` must be at most the number of training images. "
            f"Received: batch_size={batch_size}, images={len(train.images)}"
        )

    def shuffled(*arrays: np.ndarray) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices(arrays)
        data = data.shuffle(len(arrays[0]), seed, reshuffle_each_iteration=True)
        return data.batch(batch_size, drop_remainder=True).prefetch(2)

    def batched(*arrays: np.ndarray) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices(arrays)
        return data.batch(even_batch(len(arrays[0]), batch_size)).prefetch(2)

    def versions(split: Split, count: int, first: int) -> np.ndarray:
        return _fixed(split, perturb, count, seed, first)

    if limited is None:
        images = shuffled(train.images, train.labels)
        train_pairs = _fresh(images, perturb, seed, labelled=False)
        train_perturbed = _fresh(images, perturb, seed, labelled=True)
    else:
        limited = checks.count("limited", limited)
        x, x_perturbed = _pairs(train, versions(train, limited, _TRAIN))
        train_pairs = shuffled(x, x_perturbed)
        train_perturbed = shuffled(x_perturbed, np.repeat(train.labels, limited, 0))
    return PairData(
        name=name,
        image_shape=tuple(train.images.shape[1:]),
        num_classes=int(train.labels.max()) + 1,
        train_pairs=train_pairs,
        val_pairs=batched(*_pairs(val, versions(val, num_samples, _VALIDATION))),
        test_pairs=batched(*_pairs(test, versions(test, num_samples, _TEST))),
        train=shuffled(train.images, train.labels),
        val=batched(val.images, val.labels),
        test=batched(test.images, test.labels),
        train_perturbed=train_perturbed,
        test_groups=batched(versions(test, group_size, _GROUPS), test.labels),
    )


def _fresh(
    images: tf.data.Dataset, perturb: Perturb, seed: int, labelled: bool
) -> tf.data.Dataset:
    """Batches of perturbations that differ from pass to pass."""

    def draw(batch: tuple, key: tf.Tensor) -> tuple:
        x, y = batch
        x_perturbed = perturb(x, key)
        return (x_perturbed, y) if labelled else (x, x_perturbed)

    both = tf.data.Dataset.zip(images, keys(seed))
    return both.map(draw, tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _fixed(
    split: Split, perturb: Perturb, count: int, seed: int, first: int
) -> np.ndarray:
    """Perturbed versions (n, count, h, w, c), the same on every call."""
    x = tf.constant(split.images)
    versions = [perturb(x, tf.constant([seed, first + i])) for i in range(count)]
    return np.stack(versions, 1)


def _pairs(split: Split, versions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image beside each of its versions (n, count, ...), (n * count, ...)."""
    x = np.repeat(split.images, versions.shape[1], 0)
    return x, versions.reshape(x.shape)
