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


def latents(name: str, value: Any, size: int) -> np.ndarray:
    """Returns latents of a set as an array, or raises ValueError.

    Args:
        name: What the user calls them.
        value: Latents, (number, latent_dim).
        size: Number of latent dimensions.

    Returns:
        float32 (number, size) that cannot be written to.
    """
    try:
        found = np.array(value, np.float32)
        received = f"shape {found.shape}"
    except (TypeError, ValueError):  # the tuple of `encode_pairs`, for instance
        found, received = np.zeros(0, np.float32), f"a {type(value).__name__}"
    if found.ndim != 2 or found.shape[1] != size or not len(found):
        raise ValueError(
            f"`{name}` must be latents of the set, (number, {size}), as `encode_pairs` "
            f"returns them first. Received: {received}"
        )
    if not np.isfinite(found).all():
        raise ValueError(
            f"`{name}` must be finite. Received: {(~np.isfinite(found)).sum()} numbers "
            f"of {found.size} that are not"
        )
    found.setflags(write=False)
    return found


def positive_or_each(name: str, value: Any, size: int) -> float | np.ndarray:
    """Returns a positive number as a float, or one for each latent dimension.

    Args:
        name: What the user calls it.
        value: A number, or as many as there are latent dimensions.
        size: Number of latent dimensions.

    Returns:
        A float, or float64 (size,) that cannot be written to.

    Raises:
        ValueError: If there are not as many, or one is not positive and finite.
    """
    try:
        each = np.array(value, np.float64)
    except (TypeError, ValueError):
        each = np.zeros(0)
    if not each.ndim:
        return positive(name, float(each))
    good = (each > 0) & np.isfinite(each)
    if each.shape != (size,) or not good.all():
        raise ValueError(
            f"`{name}` must be one positive, finite number, or one for each of the "
            f"{size} latent dimensions. Received: {name}={value}"
        )
    each.setflags(write=False)
    return each


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
