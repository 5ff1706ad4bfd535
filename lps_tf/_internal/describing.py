"""How objects describe themselves in one line."""

from typing import Any

import numpy as np


def described(instance: object, *parts: Any, **facts: Any) -> str:
    """The name of an object's class, and what it was made of, as in a call.

    Args:
        instance: The object.
        *parts: What stands without a name.
        **facts: What stands with its name. Floats are rounded to six digits, and
            arrays are their range.
    """
    shown = [_shown(part) for part in parts]
    shown += [f"{name}={_shown(value)}" for name, value in facts.items()]
    return f"{type(instance).__name__}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.min():.6g} to {value.max():.6g}"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
