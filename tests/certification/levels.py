"""How often what holds with 1 - alpha may fail in simulations."""

import numpy as np

ALPHA = 0.05


def allowed(runs: int, alpha: float = ALPHA) -> float:
    """The share of runs that may fail: alpha, and three standard deviations."""
    return alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)
