"""Whether XLA can compile a model: some operations have no form for it."""

import re
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# Models that were tried, with their outcome; they are not kept alive by it.
_tried: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()


_Owned = dict[tuple[Callable, bool], Callable]
# Graphs of functions by the model that they are for.
_graphs: "weakref.WeakKeyDictionary[Any, _Owned]" = weakref.WeakKeyDictionary()


def graph_of(function: Callable, model: Any, jit_compile: bool = False) -> Callable:
    """The `tf.function` of a function that is one model's own.

    Of a function that all models share, the graphs of those that are gone would stay.

    Args:
        function: Takes the model among its arguments; a function of a module, so that
            the next call finds the same graphs.
        model: Model whose graphs go with it.
        jit_compile: Whether XLA compiles it.
    """
    owned = _graphs.setdefault(model, {})
    key = (function, jit_compile)
    if key not in owned:
        owned[key] = tf.function(
            function, jit_compile=jit_compile, autograph=False, reduce_retracing=True
        )
    return owned[key]


def can_compile(model: Any, function: Callable, *inputs: tf.TensorSpec) -> bool:
    """Whether XLA compiles a function of a model and its gradient; warns if not.

    The function is lowered for XLA, which says what operations it lacks, and never run.
    The outcome is remembered for as long as the model lives.

    Args:
        model: A classifier or a set. `supports_jit = False`, Keras's own flag, is
            taken as an answer.
        function: Maps tensors of the inputs' shapes to a tensor.
        *inputs: Shapes and dtypes, fully known; the gradient is taken of floating ones.
    """
    if not getattr(model, "supports_jit", True):
        return False
    if model not in _tried:
        _tried[model] = _lowers(model, function, inputs)
    return _tried[model]


def _lowers(model: Any, function: Callable, inputs: tuple) -> bool:
    @tf.function(jit_compile=True, autograph=False)
    def with_gradient(*values: tf.Tensor) -> list:
        watched = [v for v in values if v.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            result = tf.reduce_sum(tf.cast(function(*values), tf.float32))
        return [result, *tape.gradient(result, watched, unconnected_gradients="zero")]

    try:
        with tf.init_scope():  # it may be asked while a graph is traced
            zeros = [tf.zeros(spec.shape, spec.dtype) for spec in inputs]
            with_gradient.experimental_get_compiler_ir(*zeros)(stage="hlo")
    except (ValueError, tf.errors.OpError) as error:
        if "tf2xla" not in str(error):  # a fault of the model's own
            raise
        lacking = sorted(set(re.findall(r"(\w+) \(No registered", str(error))))
        warnings.warn(
            f"XLA cannot compile {getattr(model, 'name', model)}, because of "
            f"{', '.join(lacking) or 'an operation'}. It runs without XLA, which is "
            "slower; nothing else changes.",
            stacklevel=3,
        )
        return False
    return True
