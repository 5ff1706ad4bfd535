"""What every source of data returns."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class PairData:
    """Pairs to learn a perturbation set from, and labelled images to use it on.

    Pairs are batches (x, x_perturbed), labelled images batches (x, y), groups
    batches (several perturbed versions of x: (batch, draws, h, w, c), y). The splits
    share no original image.

    Where a label is a map, y is (batch, height, width). `perturbations` names the
    versions in `test_groups`, if they have names, and `unseen_perturbations` those in
    `unseen_groups`: perturbations of the test images that no training data has.
    `class_names` names the labels, if they have names.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    train_pairs: tf.data.Dataset
    val_pairs: tf.data.Dataset
    test_pairs: tf.data.Dataset
    train: tf.data.Dataset
    val: tf.data.Dataset
    test: tf.data.Dataset
    train_perturbed: tf.data.Dataset
    test_groups: tf.data.Dataset
    perturbations: tuple[str, ...] = ()
    unseen_groups: tf.data.Dataset | None = None
    unseen_perturbations: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()


def even_batch(n: int, batch_size: int) -> int:
    """The largest batch of at most `batch_size` that divides n, if it is not tiny.

    Equal batches save compiling a second program for the last one.
    """
    best = max(b for b in range(1, min(n, batch_size) + 1) if n % b == 0)
    return best if 2 * best >= min(n, batch_size) else min(n, batch_size)
