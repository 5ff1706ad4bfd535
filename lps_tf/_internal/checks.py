"""Checks of what a caller passes in: every error says what was received.

Images and labels are converted once, here: float32 and int64 from then on. The same
functions check arrays at once and, inside a `tf.data` pipeline, each batch as it comes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal.names import hint as hint
from lps_tf._internal.names import known as known
from lps_tf._internal.numbers import count as count
from lps_tf._internal.numbers import in_range as in_range
from lps_tf._internal.numbers import latents as latents
from lps_tf._internal.numbers import positive as positive
from lps_tf._internal.numbers import positive_or_each as positive_or_each
from lps_tf._internal.numbers import probability as probability

#: In a message from inside a pipeline, before what `inputs.readable` shows of it.
MARK = "lps_tf check:"

#: The label of a void pixel, inside of the package. What a user calls it, such as 255
#: in the maps of VOC and Cityscapes, is an argument `ignore_class`, as in Keras.
VOID = -1


def require(condition: tf.Tensor, value: tf.Tensor, *message: Any) -> tf.Tensor:
    """Returns `value`; raises ValueError unless the condition, a boolean scalar, holds.

    Args:
        condition: What must hold.
        value: A tensor. In a graph, whoever uses the result has checked the condition.
        *message: Text and scalars. In a graph it stands in an InvalidArgumentError,
            out of which `inputs.readable` makes a ValueError.
    """
    if not tf.is_symbolic_tensor(condition):
        if not condition:
            parts = [p if isinstance(p, str) else f"{np.asarray(p):g}" for p in message]
            raise ValueError(" ".join(parts).replace(" .", "."))
        return value
    with tf.control_dependencies([tf.debugging.Assert(condition, [MARK, *message])]):
        return tf.identity(value)


def sizes(make: Callable[..., Any], values: dict[str, Any]) -> None:
    """Raises ValueError unless a network's function has arguments of these names."""
    parameters = inspect.signature(make).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name, value in values.items():
        if name not in parameters:
            raise ValueError(
                f"The sizes of this network are {sorted(parameters)}. "
                f"{hint(name, parameters)}Received: {name}={value!r}"
            )


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
    if not tf.is_symbolic_tensor(value):
        array = np.asarray(value)
        if array.size == 0:
            raise ValueError(f"`{name}` is empty. Received shape {array.shape}.")
        in_range(name, float(array.min()), float(array.max()))
    return tf.cast(value, tf.float32)


def batch(name: str, value: Any, shape: Any = None) -> Any:
    """Returns images as float32, checked at once or, in a graph, as they come.

    Arrays that are float32 already are not copied.

    Args:
        name: What the user calls the images.
        value: Images, (batch, height, width, channels).
        shape: (height, width, channels) that they must have, as far as it is known.
    """
    if tf.is_symbolic_tensor(value):
        return images_in_graph(name, value, shape)
    checked = images(name, value)
    of_shape(name, checked, shape)
    return value if getattr(value, "dtype", None) == np.float32 else checked


def images_in_graph(name: str, value: tf.Tensor, shape: Any = None) -> tf.Tensor:
    """`images` for each batch of a pipeline.

    Args:
        name: What the user calls the images.
        value: Images, (batch, height, width, channels).
        shape: (height, width, channels) that they must have, as far as it is known.
    """
    image_spec(name, value.shape, value.dtype)
    value = of_shape(name, value, shape)
    value = tf.cast(value, tf.float32)
    low, high = tf.reduce_min(value), tf.reduce_max(value)
    # NaN fails every comparison, so one assertion finds it as well.
    message = f"`{name}` must lie in [0, 1] and hold no NaN. Received values from"
    return require((low >= 0) & (high <= 1), value, message, low, "to", high)


def of_shape(name: str, value: Any, shape: Any) -> Any:
    """Returns images, or raises ValueError unless they are (batch, *shape)."""
    if shape is None:
        return value
    if not tf.TensorShape(shape).is_compatible_with(value.shape[1:]):
        raise ValueError(
            f"`{name}` must hold images of shape {tuple(shape)}. "
            f"Received: shape {tuple(value.shape)}"
        )
    if tf.is_symbolic_tensor(value):
        return tf.ensure_shape(value, (None, *shape))
    return value


def same_shape(name_a: str, a: Any, name_b: str, b: Any) -> None:
    """Raises ValueError unless both batches have the same shape."""
    if not tf.TensorShape(a.shape).is_compatible_with(b.shape):
        raise ValueError(
            f"`{name_a}` and `{name_b}` must have the same shape. "
            f"Received: {tuple(a.shape)} and {tuple(b.shape)}."
        )


def classes(value: Any) -> tf.Tensor:
    """Returns labels in any form that Keras takes as classes, int64.

    Labels are (batch,) or, of pixels, (batch, height, width). With one axis more, its
    single entry is the class, or its entries are one-hot.

    Args:
        value: Labels of an integer dtype, booleans, or floats that are whole.

    Raises:
        ValueError: If the numbers are not whole, or not one-hot along that axis.
    """
    value = value if tf.is_tensor(value) else tf.convert_to_tensor(np.asarray(value))
    if value.dtype == tf.bool:
        value = tf.cast(value, tf.int64)
    extra = value.shape.rank in (2, 4)
    if extra and value.shape[-1] != 1:
        one_hot = tf.reduce_all((value == 0) | (value == 1))
        # In 64 bits: 8 cannot hold the sum of many classes.
        one_hot &= tf.reduce_all(tf.reduce_sum(tf.cast(value, tf.int64), -1) == 1)
        message = (
            "Labels with an axis for the classes must be one-hot, a single 1 among "
            f"zeros. Received: shape {tuple(value.shape)} with other numbers"
        )
        return require(one_hot, tf.argmax(value, -1), message)
    if value.dtype.is_floating:
        # Comparing is exact: classes are far below 2^24.
        whole = tf.reduce_all(value == tf.round(value))
        message = (
            f"Labels must be integers. Received: {value.dtype.name} with fractions"
        )
        value = require(whole, value, message)
    elif not value.dtype.is_integer:
        raise ValueError(f"Labels must be integers. Received dtype {value.dtype.name}.")
    value = tf.cast(value, tf.int64)  # first: 8 bits cannot hold every bound
    return value[..., 0] if extra else value


def labels(
    value: Any, num_classes: int | None = None, ignore_class: int | None = None
) -> tf.Tensor:
    """Returns labels as int64, checked to lie in [0, num_classes); see `classes`.

    Args:
        value: Labels, in any form that `classes` takes.
        num_classes: Number of classes; None leaves the upper end open.
        ignore_class: Label of void pixels, which come back as `VOID`; None if there
            are none.

    Raises:
        ValueError: If they are no classes, or a label is neither a class nor void.
    """
    value = classes(value)
    if not tf.is_symbolic_tensor(value) and value.shape.num_elements() == 0:
        raise ValueError(f"The labels are empty. Received shape {tuple(value.shape)}.")
    void = tf.zeros_like(value, tf.bool)
    if ignore_class is not None:
        void = value == ignore_class
    top = tf.int64.max if num_classes is None else num_classes
    # Void pixels count as class 0, which no comparison refuses.
    low = tf.reduce_min(tf.where(void, tf.constant(0, tf.int64), value))
    high = tf.reduce_max(tf.where(void, tf.constant(0, tf.int64), value))
    limit = "" if num_classes is None else f" and below {num_classes}"
    also = "" if ignore_class is None else f", or {ignore_class} for void"
    advice = (
        "."
        if ignore_class is not None
        else ". Void pixels have a label of their own: pass it as `ignore_class`."
    )
    value = require(
        (low >= 0) & (high < top),
        value,
        f"Labels must be at least 0{limit}{also}. Received labels from",
        low,
        "to",
        high,
        advice,
    )
    return tf.where(void, tf.constant(VOID, tf.int64), value)


def labels_like(value: Any, logits_shape: Any, ignore_class: int | None = None) -> Any:
    """Returns labels as int64 that suit predictions; see `labels`.

    Args:
        value: Labels, in any form that `classes` takes.
        logits_shape: Shape of the logits, (batch, classes) or (batch, height, width,
            classes); the batch does not count.
        ignore_class: Label of void pixels; None if there are none.

    Raises:
        ValueError: If the labels do not suit logits of this shape.
    """
    value = value if tf.is_tensor(value) else np.asarray(value)
    given, num_classes = tuple(value.shape), logits_shape[-1]
    # (batch, 1) is a label each, and so is (batch, classes) if it is one-hot.
    extra = len(given) == len(logits_shape)
    if not extra or given[-1] in (1, num_classes, None):
        value = classes(value)
    suit(value.shape, logits_shape, given)
    return labels(value, num_classes, ignore_class)


def suit(shape: Any, logits_shape: Any, given: Any = None) -> None:
    """Raises ValueError unless labels of a shape suit logits of a shape.

    Args:
        shape: Shape of labels, (batch, ...).
        logits_shape: Shape of logits, (batch, ..., classes).
        given: Shape of the labels as the user gave them, for the message.
    """
    *inner, num_classes = tuple(logits_shape)[1:]
    if tf.TensorShape(inner).is_compatible_with(shape[1:]):
        return
    raise ValueError(
        f"The classifier predicts classes of shape {('batch', *inner)}, so labels must "
        f"be integers of this shape, or one-hot with the {num_classes} classes last. "
        f"Received: labels of shape {tuple(shape) if given is None else given}. A "
        "classifier of (batch, 1, 1, classes) is none of pixels: wrap it as "
        "`keras.Sequential([model, keras.layers.Flatten()])`."
    )
