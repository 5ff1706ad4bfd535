"""Pipelines of sources that store each image in several versions."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.datasets.base import PairData, even_batch
from lps_tf.datasets.pipelines.pairing import PAIRINGS, all_pairs, any_version, keys


@dataclass(frozen=True)
class Groups:
    """Where groups come from, and how to read what is in them.

    Attributes:
        train: Data set of groups (x, x_perturbed, y), not batched; see `pairing`.
        val: Groups to validate and calibrate on.
        test: Groups to report on.
        decode: One stored image to float32 (height, width, channels) in [0, 1], of
            known shape.
        decode_map: One stored label map to int64 (height, width, 1), of known shape;
            None where a label is a number.
    """

    train: tf.data.Dataset
    val: tf.data.Dataset
    test: tf.data.Dataset
    decode: Callable[[tf.Tensor], tf.Tensor]
    decode_map: Callable[[tf.Tensor], tf.Tensor] | None = None


def check_pairing(pairing: str) -> None:
    """Raises ValueError for an unknown strategy; `grouped_data` may be far away."""
    if pairing not in PAIRINGS:
        raise ValueError(
            f"`pairing` must be one of {sorted(PAIRINGS)}. Received: pairing={pairing}"
        )


def grouped_data(
    name: str,
    num_classes: int,
    groups: Groups,
    *,
    pairing: str,
    batch_size: int,
    augment: Callable[..., tuple] | None,
    seed: int,
    perturbations: tuple[str, ...] = (),
    unseen: tf.data.Dataset | None = None,
    unseen_perturbations: tuple[str, ...] = (),
) -> PairData:
    """Builds the pipelines of a source that stores its images in all versions.

    Args:
        name: Name of the source, shown in every report.
        num_classes: Number of classes.
        groups: The stored images.
        pairing: Name of the strategy of `pairing.PAIRINGS` for training pairs;
            validation and test pairs are x with each of its versions.
        batch_size: Size of training batches; incomplete ones are dropped.
        augment: Function such as `pairing.crop_and_flip` makes, for training; None
            leaves images as they are.
        seed: Seed of everything random.
        perturbations: Names of the versions.
        unseen: Groups of the test images in versions that `train` does not have.
        unseen_perturbations: Names of those.

    Raises:
        ValueError: For an unknown pairing, or a batch size beyond the training data.
    """
    batch_size = checks.count("batch_size", batch_size)
    check_pairing(pairing)
    if 0 <= int(groups.train.cardinality()) < batch_size:
        raise ValueError(
            "`batch_size` must be at most the number of training images. Received: "
            f"batch_size={batch_size}, images={int(groups.train.cardinality())}"
        )

    decoded = groups.test.map(lambda x, *_: groups.decode(x))  # not yet read
    image_shape = tuple(decoded.element_spec.shape)

    def pair(x: tf.Tensor, x_perturbed: tf.Tensor) -> tuple:
        return groups.decode(x), groups.decode(x_perturbed)

    def labelled(x: tf.Tensor, y: tf.Tensor) -> tuple:
        # A label map moves with its image; it is an image itself, of one channel.
        return groups.decode(x), groups.decode_map(y) if groups.decode_map else y

    def moved(parts: tuple, key: tf.Tensor) -> tuple:
        images = [part for part in parts if part.shape.rank == 3]
        return *augment(key, *images), *parts[len(images) :]

    def flat(x: tf.Tensor, y: tf.Tensor) -> tuple:
        return x, y[..., 0] if groups.decode_map else y

    def training(data: tf.data.Dataset, read: Callable) -> tf.data.Dataset:
        data = data.shuffle(8192, seed, reshuffle_each_iteration=True)
        data = data.map(read, tf.data.AUTOTUNE)
        if augment is not None:
            data = tf.data.Dataset.zip(data, keys(seed + 1))
            data = data.map(moved, tf.data.AUTOTUNE)
        if read is labelled:
            data = data.map(flat)
        return data.batch(batch_size, drop_remainder=True).prefetch(2)

    def clean(data: tf.data.Dataset) -> tf.data.Dataset:
        return data.map(lambda x, _, y: (x, y))

    def fixed(data: tf.data.Dataset, read: Callable, size: int) -> tf.data.Dataset:
        n = int(data.cardinality())
        data = data.map(read, tf.data.AUTOTUNE)
        if read is labelled:
            data = data.map(flat)
        return data.batch(even_batch(n, size) if n > 0 else size).prefetch(2)

    def in_groups(data: tf.data.Dataset) -> tf.data.Dataset:
        def read(x: tf.Tensor, versions: tf.Tensor, y: tf.Tensor) -> tuple:
            decoded = tf.map_fn(groups.decode, versions, fn_output_signature=tf.float32)
            decoded = tf.ensure_shape(decoded, (versions.shape[0], *image_shape))
            return decoded, groups.decode_map(y)[..., 0] if groups.decode_map else y

        # A group is many images: fewer of them at once.
        size = max(1, batch_size // (data.element_spec[1].shape[0] or batch_size))
        return fixed(data, read, size)

    return PairData(
        name=name,
        image_shape=image_shape,
        num_classes=num_classes,
        train_pairs=training(PAIRINGS[pairing](groups.train, seed), pair),
        val_pairs=fixed(all_pairs(groups.val), pair, batch_size),
        test_pairs=fixed(all_pairs(groups.test), pair, batch_size),
        train=training(clean(groups.train), labelled),
        val=fixed(clean(groups.val), labelled, batch_size),
        test=fixed(clean(groups.test), labelled, batch_size),
        train_perturbed=training(any_version(groups.train, seed), labelled),
        test_groups=in_groups(groups.test),
        perturbations=perturbations,
        unseen_groups=None if unseen is None else in_groups(unseen),
        unseen_perturbations=unseen_perturbations,
    )
