"""Pipelines of sources whose perturbations can be drawn at will."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.datasets.base import PairData, even_batch
from lps_tf.datasets.pipelines.pairing import seeds

#: Perturbs a batch: (images (batch, h, w, c), seed (2,)) -> images.
Perturb = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


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
    draws: int,
    group: int,
    seed: int,
) -> PairData:
    """Builds the pipelines of a source whose perturbations can be drawn at will.

    Args:
        name: of the source, shown in every report.
        train: images to train on; so with val and test.
        val: images to validate and calibrate on.
        test: images to report on.
        perturb: draws one perturbation of each image of a batch.
        batch_size: of training; incomplete training batches are dropped, so that
            every step has one shape.
        limited: None draws afresh in each epoch; k draws k fixed versions of each
            training image.
        draws: fixed perturbed versions of each validation and test image.
        group: perturbed versions in `test_groups`.
        seed: of everything random. The order of training batches and fresh draws
            depend on TensorFlow's global seed as well: `keras.utils.set_random_seed`.
    """
    batch_size = checks.count("batch_size", batch_size)
    draws, group = checks.count("draws", draws), checks.count("group", group)
    if batch_size > len(train.images):
        raise ValueError(
            "`batch_size` must be at most the number of training images. "
            f"Received: batch_size={batch_size}, images={len(train.images)}"
        )

    def fresh(labelled: bool) -> tf.data.Dataset:
        def draw(batch: tuple, numbers: tf.Tensor) -> tuple:
            x, y = batch
            x_perturbed = perturb(x, numbers)
            return (x_perturbed, y) if labelled else (x, x_perturbed)

        images = shuffled(train.images, train.labels)
        both = tf.data.Dataset.zip(images, seeds(seed))
        return both.map(draw, tf.data.AUTOTUNE, deterministic=True).prefetch(2)

    def shuffled(*arrays: np.ndarray) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices(arrays)
        data = data.shuffle(len(arrays[0]), seed, reshuffle_each_iteration=True)
        return data.batch(batch_size, drop_remainder=True).prefetch(2)

    def fixed(split: Split, draws: int, offset: int) -> np.ndarray:
        """Perturbed versions (n, draws, h, w, c), the same on every call."""
        versions = [
            perturb(tf.constant(split.images), tf.constant([seed, offset + i])).numpy()
            for i in range(draws)
        ]
        return np.stack(versions, 1)

    def batched(*arrays: np.ndarray) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices(arrays)
        return data.batch(even_batch(len(arrays[0]), batch_size)).prefetch(2)

    def pairs(split: Split, draws: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
        x_perturbed = fixed(split, draws, offset)
        x = np.repeat(split.images, draws, 0)
        return x, x_perturbed.reshape(x.shape)

    if limited is None:
        train_pairs, train_perturbed = fresh(labelled=False), fresh(labelled=True)
    else:
        x, x_perturbed = pairs(train, checks.count("limited", limited), 0)
        train_pairs = shuffled(x, x_perturbed)
        train_perturbed = shuffled(x_perturbed, np.repeat(train.labels, limited, 0))
    # Offsets keep the draws of the splits apart.
    return PairData(
        name=name,
        image_shape=tuple(train.images.shape[1:]),
        num_classes=int(train.labels.max()) + 1,
        train_pairs=train_pairs,
        val_pairs=batched(*pairs(val, draws, 1_000_000)),
        test_pairs=batched(*pairs(test, draws, 2_000_000)),
        train=shuffled(train.images, train.labels),
        val=batched(val.images, val.labels),
        test=batched(test.images, test.labels),
        train_perturbed=train_perturbed,
        test_groups=batched(fixed(test, group, 3_000_000), test.labels),
    )
