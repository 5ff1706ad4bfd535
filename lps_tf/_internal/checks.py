"""Checks of what a caller passes in: every error says what was received."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal.numbers import count as count
from lps_tf._internal.numbers import in_range as in_range
from lps_tf._internal.numbers import positive as positive
from lps_tf._internal.numbers import probability as probability


def image_spec(name: str, shape: Any, dtype: Any) -> None:
    """Raises ValueError unless shape and dtype are those of a batch of float images."""
    dtype = keras.backend.standardize_dtype(dtype)
    rank = len(shape) if getattr(shape, "rank", 0) is not None else None
    if rank is not None and rank != 4:
        raise ValueError(
            f"`{name}` must be a batch of images of shape (batch, height, width, "
            f"channels). Received an array of rank {rank}, shape {tuple(shape)}."
        )
    if "float" not in dtype:
        raise ValueError(
            f"`{name}` must hold floats in [0, 1]. Received dtype {dtype}; "
            "convert it, for instance with `x.astype('float32') / 255`."
        )


def images(name: str, value: Any) -> tf.Tensor:
    """Returns a batch of images as float32, checked.

    Symbolic tensors (inside a graph) are checked for rank and dtype only.

    Raises:
        ValueError: Unless the batch is not empty, of rank 4, of a float dtype, free
            of NaN and inside [0, 1].
    """
    value = value if tf.is_tensor(value) else np.asarray(value)
    image_spec(name, value.shape, value.dtype)
    if tf.is_symbolic_tensor(value):
        return tf.cast(value, tf.float32)
    array = np.asarray(value)
    if array.size == 0:
        raise ValueError(f"`{name}` is empty. Received shape {array.shape}.")
    in_range(name, float(array.min()), float(array.max()))
    return tf.cast(value, tf.float32)


def same_shape(name_a: str, a: Any, name_b: str, b: Any) -> None:
    """Raises ValueError unless both batches have the same shape."""
    if not tf.TensorShape(a.shape).is_compatible_with(b.shape):
        raise ValueError(
            f"`{name_a}` and `{name_b}` must have the same shape. "
            f"Received: {tuple(a.shape)} and {tuple(b.shape)}."
        )


#: The label of a void pixel, inside of the package. What a user calls it, such as 255
#: in the maps of VOC and Cityscapes, is an argument `ignore_class`, as in Keras.
VOID = -1


def labels(
    value: Any, num_classes: int | None = None, ignore_class: int | None = None
) -> tf.Tensor:
    """Returns integer labels as int64, checked to lie in [0, num_classes).

    Args:
        value: Labels (batch,) or (batch, height, width), of any integer dtype.
        num_classes: Number of classes; None leaves the upper end open.
        ignore_class: Label of void pixels, which come back as `VOID`; None if there
            are none.

    Raises:
        ValueError: If they are no integers, or a label is neither a class nor void.
    """
    value = value if tf.is_tensor(value) else np.asarray(value)
    dtype = keras.backend.standardize_dtype(value.dtype)
    if "int" not in dtype:
        raise ValueError(f"Labels must be integers. Received dtype {dtype}.")
    symbolic = tf.is_symbolic_tensor(value)
    value = tf.cast(value, tf.int64)  # first: 8 bits cannot hold every bound
    if ignore_class is not None:
        value = tf.where(value == ignore_class, tf.constant(VOID, tf.int64), value)
    if not symbolic:
        array = value.numpy()
        if array.size == 0:
            raise ValueError(f"The labels are empty. Received shape {array.shape}.")
        array = array if ignore_class is None else array[array != VOID]
        if array.size and (
            array.min() < 0 or (num_classes is not None and array.max() >= num_classes)
        ):
            limit = "" if num_classes is None else f" and below {num_classes}"
            void = "" if ignore_class is None else f", or {ignore_class} for void"
            raise ValueError(
                f"Labels must be at least 0{limit}{void}. Received labels from "
                f"{array.min()} to {array.max()}. Void pixels have a label of their "
                "own: pass it as `ignore_class`."
            )
    return value


def labels_like(
    value: Any, logits_shape: tuple[int, ...], ignore_class: int | None = None
) -> tf.Tensor:
    """Returns labels as int64 in the shape of predictions; see `labels`.

    A last axis of length 1 is dropped, and one-hot labels become the class.

    Args:
        value: Labels of any integer dtype, or one-hot labels of any dtype.
        logits_shape: Shape of the logits of one image or more, (batch, classes) or
            (batch, height, width, classes).
        ignore_class: Label of void pixels; None if there are none.

    Raises:
        ValueError: If the labels do not suit logits of this shape.
    """
    value = np.asarray(value)
    *shape, num_classes = logits_shape
    if value.ndim == len(logits_shape):
        if value.shape[-1] == 1:
            value = value[..., 0]
        elif value.shape[-1] == num_classes and _one_hot(value):
            value = value.argmax(-1)
    if value.shape[1:] != tuple(shape[1:]):
        raise ValueError(
            f"The classifier predicts classes of shape {('batch', *shape[1:])}, so "
            "labels must be integers of this shape, or one-hot with the "
            f"{num_classes} classes last. Received: labels of shape {value.shape}"
        )
    return labels(value, num_classes, ignore_class)


def _one_hot(value: np.ndarray) -> bool:
    """Whether the last axis holds a single 1 among zeros everywhere."""
    return bool(np.isin(value, (0, 1)).all() and (value.sum(-1) == 1).all())


def image_shape_of(data: Any) -> tuple[int, int, int] | None:
    """(height, width, channels) of what `fit` was given, None if it does not tell."""
    spec = data.element_spec if isinstance(data, tf.data.Dataset) else (data,)
    shape = getattr(spec[0], "shape", ()) if isinstance(spec, tuple) else ()
    known = len(shape) == 4 and None not in shape[1:]
    return tuple(shape[1:]) if known else None


# The two kinds of data set that `fit` takes. Checks that need the numbers run in
# the input pipeline, beside training, so that every batch is looked at.

#: In a message of the input pipeline, before what `readable` shows of it.
MARK = "lps_tf check:"


def pair_dataset(data: Any, y: Any = None) -> Any:
    """Checks pairs of images (x, x_perturbed); returns what `fit` should iterate.

    Args:
        data: Batches of pairs as a tf.data.Dataset, or the array x.
        y: The array x_perturbed if `data` is an array.

    Raises:
        ValueError: If they are not pairs of equal float images in [0, 1].
    """
    if not isinstance(data, tf.data.Dataset):
        if y is not None:
            images("x", data)
            images("x_perturbed", y)
            same_shape("x", np.asarray(data), "x_perturbed", np.asarray(y))
        return data
    x, x_perturbed = _two_parts(data, "(x, x_perturbed)")
    image_spec("x", x.shape, x.dtype)
    image_spec("x_perturbed", x_perturbed.shape, x_perturbed.dtype)
    same_shape("x", x, "x_perturbed", x_perturbed)
    return _mapped(
        data, lambda x, p: (_assert_images("x", x), _assert_images("x_perturbed", p))
    )


def labelled_dataset(data: Any, y: Any, num_classes: int | None) -> Any:
    """Checks images with integer labels (x, y); as `pair_dataset` does for pairs.

    Labels have to lie in [0, classes); None, for a model that has seen no image
    size yet, leaves the upper end open.
    """
    if not isinstance(data, tf.data.Dataset):
        if y is not None:
            images("x", data)
            labels(y, num_classes)
        return data
    x, y = _two_parts(data, "(x, y)")
    image_spec("x", x.shape, x.dtype)
    if not y.dtype.is_integer:
        raise ValueError(f"Labels must be integers. Received dtype {y.dtype.name}.")
    return _mapped(
        data, lambda x, y: (_assert_images("x", x), _assert_labels(y, num_classes))
    )


def large_batches(data: tf.data.Dataset, least: int) -> tf.data.Dataset:
    """Checks that batches have an example for each replica: less would train on NaN."""
    if least == 1:
        return data
    message = f"Each batch must have at least {least} examples, one for each replica; "
    message += "`batch(size, drop_remainder=True)` helps. Received a batch of"

    def check(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = tf.shape(x)[0]
        return _assert(x, size >= least, message, size), y

    return _mapped(data, check)


def readable(method: Callable, x: Any, y: Any, kwargs: dict) -> Any:
    """Calls a Keras method on checked data; a failed check becomes a ValueError."""
    try:
        return method(x, y, **kwargs)
    except tf.errors.InvalidArgumentError as error:
        message = str(error)
        if MARK not in message:
            raise
        message = message.split(MARK)[1].split("\n")[0]
        # TensorFlow prints each part of the message in brackets of its own.
        raise ValueError(message.replace("] [", " ").strip(" []")) from None


def _two_parts(data: tf.data.Dataset, form: str) -> tuple[Any, Any]:
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(f"The data set must give batches {form}. Received: {spec}")
    if int(data.cardinality()) == 0:
        raise ValueError(
            "The data set is empty: it has no batch. Fewer examples than one batch "
            "with `drop_remainder=True` give this too."
        )
    return spec


def _mapped(data: tf.data.Dataset, check: Callable) -> tf.data.Dataset:
    return data.map(check, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _assert(value: tf.Tensor, condition: tf.Tensor, *message: Any) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.Assert(condition, [MARK, *message])]):
        return tf.identity(value)


def _assert_images(name: str, x: tf.Tensor) -> tf.Tensor:
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    # NaN fails every comparison, so one assertion finds it as well.
    message = f"`{name}` must lie in [0, 1] and hold no NaN. Received values from"
    return _assert(x, (low >= 0) & (high <= 1), message, low, "to", high)


def _assert_labels(y: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    low, high = tf.reduce_min(y), tf.reduce_max(y)
    below = y.dtype.max if num_classes is None else num_classes
    message = f"Labels must be at least 0 and below {below}. Received labels from"
    return _assert(y, (low >= 0) & (high < below), message, low, "to", high)
