"""What every source of data returns."""

from dataclasses import dataclass, fields

import tensorflow as tf

from lps_tf._internal.describing import described


@dataclass(frozen=True, repr=False)
class PairData:
    """Pairs to learn a perturbation set from, and labelled images to use it on.

    Each part is a plain `tf.data.Dataset` of batches, and works without the others:
    wherever one of them is taken, so is a data set of your own of the same form.
    Images are floats (batch, height, width, channels) in [0, 1]; labels are int64,
    (batch,), or maps (batch, height, width). The splits share no original image.

    Attributes:
        name: Name of the source, shown in every report.
        image_shape: (height, width, channels).
        num_classes: Number of classes.
        train_pairs: Pairs (x, x_perturbed) to learn a perturbation set from, in another
            order, and often with other perturbations, in each epoch.
        val_pairs: Pairs of the validation images, to stop and to calibrate on.
        test_pairs: Pairs of the test images, to report on.
        train: Clean images with labels (x, y) to train a classifier on.
        val: Clean validation images with labels.
        test: Clean test images with labels.
        train_perturbed: Truly perturbed training images with their labels.
        test_groups: Perturbed versions of each test image in one example:
            (versions, y) with versions (batch, group_size, height, width, channels).
        perturbations: Names of the versions in `test_groups`, if they have names.
        grid_groups: Groups of the test images at every point of a grid over the
            perturbation's parameters, None if it has no formula or none was made. Its
            worst point is the truth that an attack on a learned set stands for.
        unseen_groups: Groups of the test images under perturbations that no training
            data has, None if there are none.
        unseen_perturbations: Names of the versions in `unseen_groups`.
        class_names: Names of the classes, if they have names.
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
    grid_groups: tf.data.Dataset | None = None
    unseen_groups: tf.data.Dataset | None = None
    unseen_perturbations: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        batches = {
            name: len(part) if (part.cardinality() >= 0) else None
            for name, part in parts.items()
            if isinstance(part, tf.data.Dataset)
        }
        return described(
            self,
            self.name,
            image_shape=self.image_shape,
            num_classes=self.num_classes,
            batches=batches,
        )


def even_batch(n: int, batch_size: int) -> int:
    """Returns the largest batch up to `batch_size` that divides n, if it is not tiny.

    Equal batches save compiling a second program for the last one.
    """
    best = max(b for b in range(1, min(n, batch_size) + 1) if n % b == 0)
    return best if 2 * best >= min(n, batch_size) else min(n, batch_size)
