"""The paper's experiments, by name: `python -m lps_tf list` and `run`.

Each has two scales: "paper" takes the paper's settings and data, "laptop" a few
minutes on a laptop and data that need no download. `table` has them all.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lps_tf import files
from lps_tf.experiments import training
from lps_tf.experiments.classifiers import run_classifier
from lps_tf.experiments.report import page
from lps_tf.experiments.sets import run_set
from lps_tf.experiments.settings import (
    SCALES,
    ClassifierSettings,
    Experiment,
    SetSettings,
    changed,
)
from lps_tf.experiments.table import EXPERIMENTS
from lps_tf.runs import Run

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "ClassifierSettings",
    "Experiment",
    "SetSettings",
    "changed",
    "list_experiments",
    "run",
]


def list_experiments() -> str:
    """Names of the experiments, what they are, and their settings at each scale."""
    lines = []
    for name, experiment in EXPERIMENTS.items():
        lines.append(f"{name}: {experiment.about}")
        for scale in SCALES:
            s = experiment.settings(scale)
            options = ", ".join(f"{k}={v}" for k, v in s.options.items())
            lines.append(
                f"    {scale:6}  {s.data}({options}), {s.network}, {s.epochs} epochs, "
                f"batches of {s.batch_size}"
            )
        if experiment.paper.predecessor:
            lines.append(f"    runs {experiment.paper.predecessor} first")
    return "\n".join(lines)


def run(
    name: str,
    scale: str = "laptop",
    output: str | Path = "runs/experiments",
    *,
    data_dir: str | Path | None = None,
    fresh: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict:
    """Runs an experiment, or what is left of it, and what it builds on.

    Everything lands in the folder `output`/`name`: metrics.json, report.html,
    pictures, the log of training, the model and its SavedModel. What it builds on
    lands beside it, and is run only once for all that need it.

    Args:
        name: of the experiment, one of `EXPERIMENTS`.
        scale: "paper" or "laptop".
        output: folder of all experiments of one scale.
        data_dir: where data sets are kept, default that of TensorFlow Datasets.
        fresh: whether to start over; what it builds on stays.
        changes: settings that are to differ, by name, such as {"optimizer": "adam"}.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: for an unknown name, scale or setting, or if the folder holds
            results of other settings.
        FileNotFoundError: if a data set of the paper is not on this machine.
    """
    experiment, output = _experiment(name), Path(output)
    settings = changed(experiment.settings(scale), **(changes or {}))
    # First, because it refuses a folder of other settings.
    folder = Run(output / name, _settings(name, scale, settings), fresh)
    predecessor = settings.predecessor
    if predecessor is not None:
        run(predecessor, scale, output, data_dir=data_dir)
    folder.console.rule(f"{name}, {scale} scale")
    data = functools.cache(lambda: training.load(settings, data_dir))
    before = output / predecessor if predecessor else None
    work = run_set if isinstance(settings, SetSettings) else run_classifier
    results = work(folder, settings, data, before)
    metrics = {
        "experiment": name,
        "about": experiment.about,
        "scale": scale,
        "builds_on": predecessor,
        **results,
        # On other data they would say nothing.
        "published": experiment.published if scale == "paper" else {},
        "seconds": sum(folder.seconds.values()),
        "seconds_by_stage": folder.seconds,
        "settings": dataclasses.asdict(settings),
    }
    written = files.write_json(folder / "metrics.json", metrics)
    metrics = json.loads(written.read_text())
    files.write_text(folder / "report.html", page(folder, metrics))
    return metrics


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ValueError(
            f"An experiment must be one of these: {', '.join(EXPERIMENTS)}. "
            f"Received: {name}"
        )
    return EXPERIMENTS[name]


def _settings(
    name: str, scale: str, settings: SetSettings | ClassifierSettings
) -> dict:
    """What the results depend on, the settings of what they build on among them."""
    before = settings.predecessor
    builds_on = before and _settings(before, scale, _experiment(before).settings(scale))
    return {
        "experiment": name,
        "scale": scale,
        **dataclasses.asdict(settings),
        "builds_on": builds_on,
    }
