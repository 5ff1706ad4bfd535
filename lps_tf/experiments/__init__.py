"""The paper's experiments, by name: `python -m lps_tf list` and `run`.

Each has three scales: "paper" has the settings and data of the paper; "laptop" takes a
few minutes on a laptop, with data that need no download; "quick" runs every stage of
that in half a minute, to see that it works. All are rows of `table`.

With `TF_CONFIG` in the environment, the same command on each of several machines
trains on all of them (see `lps_tf.training.multi_worker`). The machines have to share
their folders.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lps_tf.experiments.settings import (
    SCALES,
    ClassifierSettings,
    Experiment,
    SetSettings,
    changed,
)
from lps_tf.experiments.table import EXPERIMENTS, PUBLISHED, find, list_experiments

if TYPE_CHECKING:
    from lps_tf.experiments.comparison import Comparison, compare
    from lps_tf.experiments.running import load_data, load_model, publish, run

__all__ = [
    "EXPERIMENTS",
    "PUBLISHED",
    "SCALES",
    "ClassifierSettings",
    "Comparison",
    "Experiment",
    "SetSettings",
    "changed",
    "compare",
    "find",
    "list_experiments",
    "load_data",
    "load_model",
    "publish",
    "run",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: they need TensorFlow, the list of experiments does not.
    if name in ("load_data", "load_model", "publish", "run"):
        return getattr(import_module("lps_tf.experiments.running"), name)
    if name in ("Comparison", "compare"):
        return getattr(import_module("lps_tf.experiments.comparison"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
