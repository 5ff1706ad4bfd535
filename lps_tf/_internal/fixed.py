"""Attributes that cannot be replaced, and numbers that take effect everywhere."""

from collections.abc import Callable
from typing import Any, ClassVar, overload

import tensorflow as tf

from lps_tf._internal.numbers import positive


class Fixed:
    """Refuses another value for the attributes in `FIXED`, once they have one.

    What was computed from them, such as a compiled graph, would go on using the old
    value. Stands first among the base classes.
    """

    #: Names of the attributes.
    FIXED: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.FIXED and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(
                f"`{name}` of a {kind} is fixed when it is built. Build another {kind} "
                f"with the new value instead. Received: {name}={value}"
            )
        super().__setattr__(name, value)


class Adjustable:
    """A positive number of an object that may be set at any time.

    It is kept in a variable, which graphs read: they need not be traced again. As a
    class attribute, `radius = Adjustable()`; `Adjustable.tensor(self, "radius")` is
    what graphs read.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._key = name, f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> "Adjustable": ...
    @overload
    def __get__(self, instance: object, owner: type) -> float: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return instance.__dict__[self._key]  # exactly what was set, not in 32 bits

    def __set__(self, instance: Any, value: float) -> None:
        value, key = self._checked(instance, value), f"{self._key}_variable"
        with tf.init_scope():
            if key in instance.__dict__:
                instance.__dict__[key].assign(self._for_graphs(instance, value))
            else:
                instance.__dict__[key] = tf.Variable(
                    self._for_graphs(instance, value),
                    trainable=False,
                    dtype=tf.float32,
                    name=self._name,
                )
        instance.__dict__[self._key] = value

    def _checked(self, instance: Any, value: Any) -> Any:
        """The value, or a ValueError if it is none of this kind."""
        return positive(self._name, value)

    def _for_graphs(self, instance: Any, value: Any) -> Any:
        """What the variable holds, always of the same shape."""
        return value

    @staticmethod
    def values(instance: object) -> dict[str, float]:
        """The numbers of this kind that an object has, by name."""
        own = [vars(kind).items() for kind in reversed(type(instance).__mro__)]
        return {
            name: value.__get__(instance, type(instance))
            for items in own
            for name, value in items
            if isinstance(value, Adjustable)
        }

    @staticmethod
    def tensor(instance: Any, name: str) -> tf.Variable:
        """The variable behind an attribute, a float32 scalar."""
        return instance.__dict__[f"_{name}_variable"]


class TracedAgain:
    """An attribute that may be set at any time, after which steps are traced again.

    Args:
        check: Function from what is set to what is kept; it raises ValueError for
            what will not do. The model's `trace_again` is called afterwards.
    """

    def __init__(self, check: Callable[[Any], Any]):
        self._check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, model: Any, owner: type) -> Any:
        return self if model is None else getattr(model, self._name)

    def __set__(self, model: Any, value: Any) -> None:
        setattr(model, self._name, self._check(value))
        model.trace_again()
