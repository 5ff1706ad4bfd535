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
    seed: int | None = None,
    verbose: bool = True,
) -> dict:
    """Runs an experiment, or what is left of it, and what it builds on.

    All results are written to the folder `output`/`name`: metrics.json, report.html,
    pictures, the log of training, the model and its SavedModel. What it builds on has
    a folder beside it, and is run only once for all experiments that need it.

    Args:
        name: Name of the experiment, one of `EXPERIMENTS`.
        scale: One of "paper", "laptop" and "quick".
        output: Folder of all experiments of one scale, default runs/`scale`.
        data_dir: Folder of the data sets, default that of TensorFlow Datasets.
        fresh: Whether to start over; results of what it builds on are kept.
        changes: Settings that differ from those of the table, by name, such as
            {"optimizer": "adam"}.
        seed: Seed of the training. Another one than the table's has a folder of its
            own, such as `output`/`name`-seed1, and builds on the same experiments.
        verbose: Whether to show progress and results.

    Returns:
        What metrics.json holds; nothing on a machine that is not the chief.

    Raises:
        ValueError: If the name, the scale or a setting is unknown, or if the folder
            holds results of other settings.
        FileNotFoundError: If a data set of the paper is not on this machine.
    """
    strategy = multi_worker.strategy_from_environment()
    output = Path(output or f"runs/{scale}")
    changes = dict(changes or {})
    folder = name
    if seed is not None and seed != find(name).settings(scale).seed:
        folder, changes["seed"] = f"{name}-seed{seed}", seed
    return _run(
        name,
        scale,
        output,
        folder=folder,
        data_dir=data_dir,
        fresh=fresh,
        changes=changes,
        verbose=verbose,
        strategy=strategy,
    )


def publish(
    name: str,
    scale: str = "laptop",
    output: str | Path | None = None,
    *,
    directory: str | Path = "saved_models",
    data_dir: str | Path | None = None,
) -> Path:
    """Writes a folder with a trained model to give away; runs its experiment first.

    Args:
        name: Name of the experiment.
        scale: Scale of the experiment, as for `run`.
        output: Folder of all experiments of the scale, as for `run`.
        directory: Parent of the folder that is written, which has the name of the
            experiment, with "-" for "/". It holds a SavedModel that needs TensorFlow
            alone, preset.json for `from_preset`, card.json, README.md, and a few
            examples with what the model achieves on them.
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
    """Loads the data of an experiment."""
    return training.load(find(name).settings(scale), data_dir)


def load_model(name: str, output: str | Path) -> keras.Model:
    """Loads what an experiment has trained: a set, a classifier or a segmenter.

    Args:
        name: Name of the experiment.
        output: Folder of all experiments of the scale, as for `run`.

    Raises:
        FileNotFoundError: If the experiment has not been run.
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
    *,
    folder: str,
    data_dir: str | Path | None,
    fresh: bool,
    changes: Mapping[str, Any],
    verbose: bool,
    strategy: tf.distribute.Strategy,
) -> dict:
    experiment = find(name)
    settings = changed(experiment.settings(scale), **changes)
    chief = multi_worker.is_chief(strategy)
    # First of all, because it refuses a folder with results of other settings.
    stages = Stages(
        output / folder, _settings(name, scale, settings), fresh, verbose, not chief
    )
    predecessor = settings.predecessor
    try:
        if predecessor is not None:
            shown = verbose and not (output / predecessor / "metrics.json").exists()
            _run(
                predecessor,
                scale,
                output,
                folder=predecessor,
                data_dir=data_dir,
                fresh=False,
                changes={},
                verbose=shown,
                strategy=strategy,
            )
        # Until here the chief may write what the other machines are going to read.
        multi_worker.wait_for_all(strategy)
        stages.console.rule(f"{name}, {scale} scale")
        data = functools.cache(lambda: training.load(settings, data_dir))
        if isinstance(settings, SetSettings):
            start = None if settings.start is None else output / settings.start
            results = run_set(stages, settings, data, start, strategy)
        else:
            learned = output / settings.perturbation_set
            results = run_classifier(stages, settings, data, learned, strategy)
    except BaseException:
        stages.release()  # what has come to nothing leaves no folder
        raise
    if not chief:
        return {}
    metrics = {
        "experiment": name,
        "about": experiment.about,
        "scale": scale,
        "builds_on": predecessor,
        **results,
        # On other data the paper's figures say nothing.
        "published": experiment.published if scale == "paper" else {},
        "seconds": sum(stages.seconds.values()),
        "seconds_by_stage": stages.seconds,
        "settings": dataclasses.asdict(settings),
    }
    written = files.write_json(stages / "metrics.json", metrics)
    metrics = json.loads(written.read_text())
    files.write_text(
        stages / "report.html", page({name: (stages.directory, metrics)}, title=name)
    )
    return metrics


def _settings(
    name: str, scale: str, settings: SetSettings | ClassifierSettings
) -> dict:
    """Returns what the results depend on, including what they build on."""
    before = settings.predecessor
    builds_on = before and _settings(before, scale, find(before).settings(scale))
    return {
        "experiment": name,
        "scale": scale,
        **dataclasses.asdict(settings),
        "builds_on": builds_on,
    }
