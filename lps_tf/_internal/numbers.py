"""Checks of numbers, for rooms that do without TensorFlow too; see `checks`."""

from typing import Any

import numpy as np


def positive(name: str, value: float) -> float:
    """Returns `value` as a float, or raises ValueError unless 0 < value < infinity."""
    number = _number(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(
            f"`{name}` must be positive and finite. Received: {name}={value}"
        )
    return number


def probability(name: str, value: float) -> float:
    """Returns `value` as a float, or raises ValueError unless 0 < value < 1."""
    number = _number(name, value)
    if not 0 < number < 1:
        raise ValueError(
            f"`{name}` must lie strictly between 0 and 1. Received: {name}={value}"
        )
    return number


def count(name: str, value: int, least: int = 1) -> int:
    """Returns `value` as an int, or raises ValueError unless it is a whole >= least."""
    number = _number(name, value)
    whole = not isinstance(value, bool | str) and number.is_integer()
    if not whole or number < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. "
            f"Received: {name}={value}"
        )
    return int(value)  # a float does not hold every large integer


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` must be a number. Received: {name}={value}"
        ) from None


def in_range(name: str, low: float, high: float) -> None:
    """Raises ValueError unless the least and largest value are inside [0, 1]."""
    if np.isnan(low) or np.isnan(high):
        raise ValueError(f"`{name}` holds NaN. Clean the images first.")
    if low < 0 or high > 1:
        raise ValueError(
            f"`{name}` must lie in [0, 1]. Received values from {low:g} to {high:g}; "
            "rescale them first (8-bit images: divide by 255)."
        )
