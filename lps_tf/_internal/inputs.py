"""Data as users have them: whatever Keras's `fit` takes, in one form and checked."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal import checks

#: (x, y, weight or None) -> the same, checked and converted. It is called with arrays,
#: with a batch of a generator, and with the symbolic tensors of a `tf.data` pipeline.
Convert = Callable[[Any, Any, Any], tuple[Any, Any, Any]]

_KINDS = "arrays, a tf.data.Dataset, a keras.utils.PyDataset or a generator of batches"


@dataclass(frozen=True)
class Data:
    """The first three arguments of Keras's `fit`, and what is known of a batch.

    Attributes:
        x: Array, or all of the data in one of the other forms.
        y: Array of targets, None in the other forms.
        weight: Array of weights of examples (or pixels), None for none.
        shapes: Shapes of a batch's x, y and, if it has one, weight; None where they
            are not known.
    """

    x: Any
    y: Any
    weight: Any
    shapes: tuple[tf.TensorShape, ...]

    @classmethod
    def of(cls, x: Any, y: Any = None, weight: Any = None) -> "Data":
        """Looks at data without converting it.

        Raises:
            ValueError: If they are no data that Keras takes, come without targets or
                are empty.
        """
        if isinstance(x, tf.data.Dataset):
            return cls._of_dataset(x, y, weight)
        if isinstance(x, keras.utils.PyDataset) or hasattr(x, "__next__"):
            _require_alone(y, weight)
            if isinstance(x, keras.utils.PyDataset):
                first = x[0]
            else:
                first = next(x, None)
                if first is None:
                    raise ValueError("The generator is empty: it has no batch.")
                x = chain([first], x)  # what was looked at is still to be used
            return cls(x, None, None, _shapes(*packed(*unpacked(first))))
        if not hasattr(x, "shape") and not isinstance(x, list):
            raise ValueError(f"The data must be {_KINDS}. Received: {type(x).__name__}")
        if y is None:
            raise ValueError(
                "There must be a target for each image: pass the array `y` beside `x`. "
                "Received: y=None"
            )
        x, y = _array(x), _array(y)
        weight = None if weight is None else _array(weight)
        lengths = [len(v) for v in (x, y, weight) if v is not None]
        if len(set(lengths)) > 1:
            raise ValueError(
                "Images, targets and weights must be equally many. "
                f"Received: {', '.join(map(str, lengths))}"
            )
        return cls(x, y, weight, _shapes(x, y))

    @classmethod
    def _of_dataset(cls, x: tf.data.Dataset, y: Any, weight: Any) -> "Data":
        _require_alone(y, weight)
        spec = x.element_spec
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise ValueError(
                "The data set must give batches (x, y), or (x, y, weight). "
                f"Received: {spec}"
            )
        if int(x.cardinality()) == 0:
            raise ValueError(
                "The data set is empty: it has no batch. Fewer examples than one batch "
                "with `drop_remainder=True` give this too."
            )
        shapes: tuple[Any, ...] = tuple(getattr(part, "shape", None) for part in spec)
        if not all(isinstance(s, tf.TensorShape) for s in shapes):
            raise ValueError(
                f"Images and targets must be one tensor each. Received: batches {spec}"
            )
        # Of a generator without a signature, only a batch tells.
        if any(shape.rank is None for shape in shapes):
            first = next(iter(x.take(1)), None)
            if first is None:
                raise ValueError("The data set is empty: it has no batch.")
            shapes = tuple(
                known if shape.rank is None else shape
                for shape, known in zip(shapes, _shapes(*first), strict=True)
            )
        return cls(x, None, None, shapes)

    @property
    def is_dataset(self) -> bool:
        """Whether the data are a tf.data.Dataset."""
        return isinstance(self.x, tf.data.Dataset)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of a batch.

        Raises:
            ValueError: If a batch holds no images.
        """
        shape = self.shapes[0]
        checks.image_spec("x", shape, "float32")
        if None in shape[1:] and self.is_dataset:
            shape = tf.shape(next(iter(self.x.take(1)))[0])
        height, width, channels = (int(size) for size in shape[1:])
        return height, width, channels

    def converted(self, convert: Convert) -> "Data":
        """The data, each batch of which goes through `convert`; arrays at once."""
        if self.is_dataset:

            def graph(*batch: tf.Tensor) -> tuple:
                known = map(tf.ensure_shape, batch, self.shapes)
                return packed(*convert(*unpacked(tuple(known))))

            # It branches on no tensor: reading its source anew in each `fit` costs more
            # than tracing it.
            graph = tf.autograph.experimental.do_not_convert(graph)
            data = self.x.map(graph, num_parallel_calls=tf.data.AUTOTUNE)
            return replace(self, x=data.prefetch(2))
        if isinstance(self.x, keras.utils.PyDataset):
            return replace(self, x=_Converted(self.x, convert))
        if self.y is None:
            batches = (packed(*convert(*unpacked(batch))) for batch in self.x)
            return replace(self, x=batches)
        x, y, weight = convert(self.x, self.y, self.weight)
        return replace(self, x=x, y=y, weight=weight)

    def batches(self, batch_size: int) -> float:
        """Number of batches of a pass, infinite if it is not known."""
        if self.is_dataset:
            number = int(self.x.cardinality())
        elif isinstance(self.x, keras.utils.PyDataset):
            number = -1 if self.x.num_batches is None else self.x.num_batches
        else:
            number = -1 if self.y is None else -(-len(self.x) // batch_size)
        return number if number >= 0 else float("inf")


class _Converted(keras.utils.PyDataset):
    """A PyDataset whose batches are checked as they are made."""

    def __init__(self, data: keras.utils.PyDataset, convert: Convert):
        super().__init__(workers=data.workers, max_queue_size=data.max_queue_size)
        self._data, self._convert = data, convert

    def __getitem__(self, index: int) -> tuple:
        return packed(*self._convert(*unpacked(self._data[index])))

    @property
    def num_batches(self) -> int | None:
        return self._data.num_batches

    def on_epoch_begin(self) -> None:
        self._data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._data.on_epoch_end()


def unpacked(batch: Any) -> tuple[Any, Any, Any]:
    """(x, y, weight) of a batch of two or three, the weight None of two.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        found = type(batch).__name__
        size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
        raise ValueError(
            f"Batches must be (x, y), or (x, y, weight). Received: a {found}{size}"
        )
    x, y, *weight = batch
    return x, y, weight[0] if weight else None


def packed(x: Any, y: Any, weight: Any) -> tuple:
    """A batch as Keras takes it: without the weight if there is none."""
    return (x, y) if weight is None else (x, y, weight)


def batches(data: Any, y: Any = None, batch_size: int = 32) -> Iterator[tuple]:
    """Batches (x, y) of data for measurements, as eager tensors or arrays.

    Args:
        data: Whatever `fit` takes, and the two arrays in one tuple.
        y: The array of targets if `data` is the array of images.
        batch_size: Images in a batch of arrays; other data have batches of their own.

    Raises:
        ValueError: For data without an end, or no data.
    """
    if isinstance(data, tuple | list) and y is None and len(data) in (2, 3):
        data, y = data[:2]
    if isinstance(data, tf.data.Dataset):
        require_an_end(data)
    data = Data.of(data, y)
    if data.y is not None:
        return _slices(data.x, data.y, batch_size)
    whole: Iterable = data.x
    if isinstance(whole, keras.utils.PyDataset):
        if whole.num_batches is None:
            raise ValueError("The PyDataset is endless: its `num_batches` is None.")
        whole = (data.x[i] for i in range(whole.num_batches))
    return (unpacked(batch)[:2] for batch in whole)


def require_an_end(data: tf.data.Dataset) -> None:
    """Raises ValueError for a data set that says that it has no end."""
    if data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "The data set is endless. Take some batches of it: `data.take(100)`."
        )


def _slices(x: Any, y: Any, size: int) -> Iterator[tuple]:
    for i in range(0, len(x), size):
        yield x[i : i + size], y[i : i + size]


def large_batches(data: tf.data.Dataset, least: int) -> tf.data.Dataset:
    """Checks that batches have an example for each replica: less would train on NaN."""
    if least == 1:
        return data
    message = f"Each batch must have at least {least} examples, one for each replica; "
    message += "`batch(size, drop_remainder=True)` helps. Received a batch of"

    def check(x: tf.Tensor, *rest: tf.Tensor) -> tuple:
        size = tf.shape(x)[0]
        return (checks.require(size >= least, x, message, size), *rest)

    return data.map(check, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def readable(method: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls a method that iterates data; a check failed in a graph is a ValueError."""
    try:
        return method(*args, **kwargs)
    except tf.errors.InvalidArgumentError as error:
        message = str(error)
        if checks.MARK not in message:
            raise
        message = message.split(checks.MARK)[1].split("\n")[0]
        # TensorFlow prints each part of the message in brackets of its own.
        message = message.replace("] [", " ").strip(" []").replace(" .", ".")
        raise ValueError(message) from None


def _require_alone(y: Any, weight: Any) -> None:
    if y is not None or weight is not None:
        raise ValueError(
            "A data set or generator gives targets and weights in its batches: "
            "(x, y, weight). Received: `y` or `sample_weight` beside it"
        )


def _array(value: Any) -> Any:
    return value if tf.is_tensor(value) else np.asarray(value)


def _shapes(*batch: Any) -> tuple[tf.TensorShape, ...]:
    """Shapes of a batch's parts; its size may be another in the next one."""
    found = []
    for value in batch:
        if isinstance(value, dict | tuple):
            raise ValueError(
                "Images and targets must be one array each. "
                f"Received: a {type(value).__name__}"
            )
        found.append(tf.TensorShape([None, *np.shape(value)[1:]]))
    return tuple(found)
