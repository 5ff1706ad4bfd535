"""From groups, one image in several versions, to pairs and labelled images.

A group is (x, x_perturbed, y): an image, its k perturbed versions along a first axis
of their own, and its label or label map. Data sets of groups are not batched. What
goes into a pair is drawn first and decoded afterwards, so that images may still be
strings of JPEG or PNG. Splits are splits of groups: no image is in two of them.
"""

from collections.abc import Callable

import tensorflow as tf

from lps_tf._internal import checks

#: Two numbers below the given one: of the two versions that make a pair.
Choose = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def keys(seed: int) -> tf.data.Dataset:
    """Makes an endless data set of keys, (2,) int32, others in each pass."""
    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return numbers.batch(2, drop_remainder=True).map(
        lambda n: tf.cast(n % 2**31, tf.int32)
    )


# The strategies, one pair of each group in each pass. Images count from the original,
# which is number 0.


def from_original(groups: tf.data.Dataset, seed: int = 0) -> tf.data.Dataset:
    """Pairs of x and one of its perturbed versions, drawn afresh in each pass."""

    def choose(count: tf.Tensor, key: tf.Tensor) -> tuple:
        return 0, 1 + _below(count - 1, key)

    return _pairs(groups, seed, choose)


def with_original(groups: tf.data.Dataset, seed: int = 0) -> tf.data.Dataset:
    """Pairs of two different ones among x and its perturbed versions."""
    return _pairs(groups, seed, _two_below)


def among_perturbed(groups: tf.data.Dataset, seed: int = 0) -> tf.data.Dataset:
    """Pairs of two different perturbed versions of an image."""

    def choose(count: tf.Tensor, key: tf.Tensor) -> tuple:
        first, second = _two_below(count - 1, key)
        return 1 + first, 1 + second

    return _pairs(groups, seed, choose)


#: The paper's strategies by name.
PAIRINGS = {
    "from_original": from_original,
    "with_original": with_original,
    "among_perturbed": among_perturbed,
}


def all_pairs(groups: tf.data.Dataset) -> tf.data.Dataset:
    """X with each of its perturbed versions in order: k pairs of each group."""
    pairs = groups.flat_map(
        lambda x, versions, y: tf.data.Dataset.from_tensor_slices(versions).map(
            lambda x_perturbed: (x, x_perturbed)
        )
    )
    count, each = int(groups.cardinality()), groups.element_spec[1].shape[0]
    if count < 0 or each is None:
        return pairs
    return pairs.apply(tf.data.experimental.assert_cardinality(count * each))


def any_version(groups: tf.data.Dataset, seed: int = 0) -> tf.data.Dataset:
    """Labelled images: x or one of its perturbed versions, drawn in each pass."""

    def choose(group: tuple, key: tf.Tensor) -> tuple:
        x, versions, y = group
        images = tf.concat([x[None], versions], 0)
        return images[_below(tf.shape(images)[0], key)], y

    return tf.data.Dataset.zip(groups, keys(seed)).map(choose, tf.data.AUTOTUNE)


def mixed(
    first: tf.data.Dataset, second: tf.data.Dataset, share: float = 0.5
) -> tf.data.Dataset:
    """Batches that begin with images of one data set and end with those of another.

    With `RobustClassifier(..., clean_fraction=share)` the first ones stay as they are,
    such as true perturbations, and the others are attacked:
    `mixed(data.train_perturbed, data.train)`.

    Args:
        first: Batches (x, y) of labelled images.
        second: Batches of the same form and size.
        share: Part of each batch that is of `first`, rounded down to whole images.

    Returns:
        As many batches as the shorter one has.

    Raises:
        ValueError: If the share is not between 0 and 1, or the batches are not alike.
    """
    if not 0 < share < 1:
        raise ValueError(
            f"`share` must be more than 0 and less than 1. Received: share={share}"
        )
    if first.element_spec != second.element_spec:
        raise ValueError(
            "`first` and `second` must have batches of the same shapes and types. "
            f"Received: {first.element_spec} and {second.element_spec}"
        )

    def join(one: tuple, other: tuple) -> tuple:
        size = tf.cast(tf.shape(one[0])[0], tf.float32)
        count = tf.cast(share * size, tf.int32)
        return tuple(
            tf.ensure_shape(tf.concat([a[:count], b[count:]], 0), a.shape)
            for a, b in zip(one, other, strict=True)
        )

    return tf.data.Dataset.zip(first, second).map(join, tf.data.AUTOTUNE)


def _pairs(groups: tf.data.Dataset, seed: int, choose: Choose) -> tf.data.Dataset:
    def pair(group: tuple, key: tf.Tensor) -> tuple:
        x, versions, _ = group
        images = tf.concat([x[None], versions], 0)
        first, second = choose(tf.shape(images)[0], key)
        return images[first], images[second]

    return tf.data.Dataset.zip(groups, keys(seed)).map(pair, tf.data.AUTOTUNE)


def _below(count: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform((), key, 0, count, tf.int32)


def _two_below(count: tf.Tensor, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    one, other = tf.unstack(tf.random.split(key, 2))
    first = _below(count, one)
    # Any but the first: those above it move down by one.
    second = _below(count - 1, other)
    return first, second + tf.cast(second >= first, tf.int32)


def crop_and_flip(
    pad: int, flip: bool = True, mode: str = "CONSTANT"
) -> Callable[..., tuple]:
    """A random crop of the padded image and a random flip, the same for all parts.

    Args:
        pad: Rows and columns added on each side; the crop has the old size.
        flip: Whether to flip left and right in half of the cases.
        mode: "CONSTANT" pads with black, "REFLECT" and "SYMMETRIC" with the image;
            label maps need one of the latter.

    Returns:
        A function (key, *parts): each part is an image or a label map of one size,
        (height, width, channels); it returns them moved.
    """
    pad = checks.count("pad", pad, least=0)

    def move(key: tf.Tensor, *parts: tf.Tensor) -> tuple[tf.Tensor, ...]:
        where, whether = tf.unstack(tf.random.split(key, 2))
        corner = tf.random.stateless_uniform((2,), where, 0, 2 * pad + 1, tf.int32)
        flipped = flip and tf.random.stateless_uniform((), whether) < 0.5
        moved = []
        for part in parts:
            wide = tf.pad(part, [[pad, pad], [pad, pad], [0, 0]], mode)
            part = tf.slice(wide, [*tf.unstack(corner), 0], tf.shape(part))
            part = tf.ensure_shape(part, part.shape)
            moved.append(tf.where(flipped, part[:, ::-1], part))
        return tuple(moved)

    return move
