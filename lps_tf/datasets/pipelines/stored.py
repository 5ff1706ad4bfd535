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

    make = _Pipelines(groups, batch_size, augment, seed)
    return PairData(
        name=name,
        image_shape=make.image_shape,
        num_classes=num_classes,
        train_pairs=make.training(PAIRINGS[pairing](groups.train, seed), False),
        val_pairs=make.fixed(all_pairs(groups.val), False),
        test_pairs=make.fixed(all_pairs(groups.test), False),
        train=make.training(groups.train.map(_clean), True),
        val=make.fixed(groups.val.map(_clean), True),
        test=make.fixed(groups.test.map(_clean), True),
        train_perturbed=make.training(any_version(groups.train, seed), True),
        test_groups=make.in_groups(groups.test),
        perturbations=perturbations,
        unseen_groups=None if unseen is None else make.in_groups(unseen),
        unseen_perturbations=unseen_perturbations,
    )


def _clean(x: tf.Tensor, _: tf.Tensor, y: tf.Tensor) -> tuple:
    return x, y


@dataclass(frozen=True)
class _Pipelines:
    """Turns what is stored into batches; `labelled` data are (x, y), others pairs."""

    groups: Groups
    batch_size: int
    augment: Callable[..., tuple] | None
    seed: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        decode = self.groups.decode
        decoded = self.groups.test.map(lambda x, *_: decode(x))  # not yet read
        return tuple(decoded.element_spec.shape)

    def training(self, data: tf.data.Dataset, labelled: bool) -> tf.data.Dataset:
        """Full batches in another order each epoch, augmented."""
        augment = self.augment
        data = data.shuffle(8192, self.seed, reshuffle_each_iteration=True)
        data = self._read(data, labelled)
        if augment is not None:

            def moved(parts: tuple, key: tf.Tensor) -> tuple:
                # A label is no image and stays; a map of labels is one and moves.
                images = [part for part in parts if part.shape.rank == 3]
                return *augment(key, *images), *parts[len(images) :]

            data = tf.data.Dataset.zip(data, keys(self.seed + 1))
            data = data.map(moved, tf.data.AUTOTUNE)
        if labelled:
            data = data.map(self._flat)
        return data.batch(self.batch_size, drop_remainder=True).prefetch(2)

    def fixed(self, data: tf.data.Dataset, labelled: bool) -> tf.data.Dataset:
        """All examples, always in the same order and the same batches."""
        n = int(data.cardinality())
        data = self._read(data, labelled)
        if labelled:
            data = data.map(self._flat)
        return _batched(data, n, self.batch_size)

    def in_groups(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Batches (x, all its versions, y), always in the same order."""
        decode, shape = self.groups.decode, self.image_shape

        def read(x: tf.Tensor, versions: tf.Tensor, y: tf.Tensor) -> tuple:
            decoded = tf.map_fn(decode, versions, fn_output_signature=tf.float32)
            decoded = tf.ensure_shape(decoded, (versions.shape[0], *shape))
            return decoded, self._flat(x, self._label(y))[1]

        # A group is many images: fewer of them at once.
        versions = data.element_spec[1].shape[0] or self.batch_size
        n = int(data.cardinality())
        data = data.map(read, tf.data.AUTOTUNE)
        return _batched(data, n, max(1, self.batch_size // versions))

    def _read(self, data: tf.data.Dataset, labelled: bool) -> tf.data.Dataset:
        decode = self.groups.decode

        def read(x: tf.Tensor, other: tf.Tensor) -> tuple:
            return decode(x), self._label(other) if labelled else decode(other)

        return data.map(read, tf.data.AUTOTUNE)

    def _label(self, y: tf.Tensor) -> tf.Tensor:
        """The label, or the map of labels, for now an image of one channel."""
        return y if self.groups.decode_map is None else self.groups.decode_map(y)

    def _flat(self, x: tf.Tensor, y: tf.Tensor) -> tuple:
        """Takes the channel off (height, width, 1) maps of labels."""
        return x, y if self.groups.decode_map is None else y[..., 0]


def _batched(data: tf.data.Dataset, n: int, size: int) -> tf.data.Dataset:
    return data.batch(even_batch(n, size) if n > 0 else size).prefetch(2)
