"""Runs experiments, publishes what they trained, and loads it again."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lps_tf._internal import files
from lps_tf.datasets import PairData
from lps_tf.experiments import publishing, training
from lps_tf.experiments.classifiers import run_classifier
from lps_tf.experiments.report import page
from lps_tf.experiments.sets import run_set
from lps_tf.experiments.settings import (
    ClassifierSettings,
    SetSettings,
    changed,
)
from lps_tf.experiments.stages import Stages
from lps_tf.experiments.table import find
from lps_tf.training import multi_worker


def run(
    name: str,
    scale: str = "laptop",
    output: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    fresh: bool = False,
    changes: Mapping[str, Any] | None = None,
    verbose: bool = True,
) -> dict:
    """Runs an experiment, or what is left of it, and what it builds on.

    Everything lands in the folder `output`/`name`: metrics.json, report.html,
    pictures, the log of training, the model and its SavedModel. What it builds on
    lands beside it, and is run only once for all that need it.

    Args:
        name: Name of the experiment, one of `EXPERIMENTS`.
        scale: One of "paper", "laptop" and "quick".
        output: Folder of all experiments of one scale, default runs/`scale`.
        data_dir: Folder of the data sets, default that of TensorFlow Datasets.
        fresh: Whether to start over; what it builds on stays.
        changes: Settings that are to differ, by name, such as {"optimizer": "adam"}.
        verbose: Whether to show progress and results.

    Returns:
        What metrics.json holds; nothing on a machine that is not the chief.

    Raises:
        ValueError: for an unknown name, scale or setting, or if the folder holds
            results of other settings.
        FileNotFoundError: if a data set of the paper is not on this machine.
    """
    strategy = multi_worker.strategy_from_environment()
    output = Path(output or f"runs/{scale}")
    changes = changes or {}
    return _run(name, scale, output, data_dir, fresh, changes, verbose, strategy)


def publish(
    name: str,
    scale: str = "laptop",
    output: str | Path | None = None,
    *,
    directory: str | Path = "saved_models",
    data_dir: str | Path | None = None,
) -> Path:
    """Runs an experiment, if it has not been, and makes its model one to give away.

    Args:
        name: Name of the experiment.
        scale: Scale, as for `run`.
        output: Folder of all experiments of the scale, as for `run`.
        directory: Folder in which one of the experiment's name is written, with "-"
            for "/": a SavedModel that needs TensorFlow alone, card.json, README.md,
            and a few examples with what the model achieves on them.
        data_dir: Folder of the data sets, as for `run`.

    Returns:
        The folder.
    """
    output = Path(output or f"runs/{scale}")
    metrics = run(name, scale, output, data_dir=data_dir)
    return publishing.publish(
        metrics,
        load_model(name, output),
        load_data(name, scale, data_dir),
        output / name / "saved_model",
        Path(directory) / name.replace("/", "-"),
    )


def load_data(
    name: str, scale: str = "laptop", data_dir: str | Path | None = None
) -> PairData:
    """The data of an experiment."""
    return training.load(find(name).settings(scale), data_dir)


def load_model(name: str, output: str | Path) -> keras.Model:
    """What an experiment has trained: a PerturbationSet, a classifier or segmenter.

    Args:
        name: Name of the experiment.
        output: Folder that `run` was given.

    Raises:
        FileNotFoundError: if it has not been run.
    """
    path = Path(output) / name / training.MODEL
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {path}: first, run the experiment {name} with this output."
        )
    return keras.models.load_model(path)


def _run(
    name: str,
    scale: str,
    output: Path,
    data_dir: str | Path | None,
    fresh: bool,
    changes: Mapping[str, Any],
    verbose: bool,
    strategy: tf.distribute.Strategy,
) -> dict:
    experiment = find(name)
    settings = changed(experiment.settings(scale), **changes)
    chief = multi_worker.is_chief(strategy)
    # First, because it refuses a folder of other settings.
    folder = Stages(
        output / name, _settings(name, scale, settings), fresh, verbose, not chief
    )
    predecessor = settings.predecessor
    if predecessor is not None:
        shown = verbose and not (output / predecessor / "metrics.json").exists()
        _run(predecessor, scale, output, data_dir, False, {}, shown, strategy)
    # Until here the chief may write what the others are going to read.
    multi_worker.wait_for_all(strategy)
    folder.console.rule(f"{name}, {scale} scale")
    data = functools.cache(lambda: training.load(settings, data_dir))
    before = output / predecessor if predecessor else None
    work = run_set if isinstance(settings, SetSettings) else run_classifier
    results = work(folder, settings, data, before, strategy)
    if not chief:
        return {}
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
    files.write_text(
        folder / "report.html", page({name: (folder.directory, metrics)}, title=name)
    )
    return metrics


def _settings(
    name: str, scale: str, settings: SetSettings | ClassifierSettings
) -> dict:
    """What the results depend on, the settings of what they build on among them."""
    before = settings.predecessor
    builds_on = before and _settings(before, scale, find(before).settings(scale))
    return {
        "experiment": name,
        "scale": scale,
        **dataclasses.asdict(settings),
        "builds_on": builds_on,
    }
