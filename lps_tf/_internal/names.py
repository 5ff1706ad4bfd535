"""Checks of names, for rooms that do without TensorFlow too; see `checks`."""

import difflib
from collections.abc import Iterable


def hint(value: str, choices: Iterable[str]) -> str:
    """A question for an error: did they mean the choice that looks most like it?

    Args:
        value: What was given.
        choices: What there is.

    Returns:
        The question with a space behind it, or nothing if none looks like it.
    """
    close = difflib.get_close_matches(value, choices, 1)
    return f"Did you mean {close[0]!r}? " if close else ""


def known(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises ValueError unless the argument of this name is one of the choices."""
    choices = sorted(choices)
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {choices}. {hint(value, choices)}"
            f"Received: {name}={value!r}"
        )
