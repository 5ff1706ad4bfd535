"""Data and training of an experiment: interrupted runs go on, and leave a log."""

import csv
import importlib.util
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from lps_tf import datasets, files
from lps_tf.experiments.settings import Training
from lps_tf.progress import EpochBar
from lps_tf.runs import Run
from lps_tf.schedules import PiecewiseLinear

#: The trained model, in an experiment's folder.
MODEL = "models/model.keras"


def load(settings: Training, data_dir: str | Path | None) -> datasets.PairData:
    """The data of an experiment; `data_dir` is for data that are kept on disk."""
    source = getattr(datasets, settings.data)
    options = dict(settings.options)
    if data_dir is not None and "data_dir" in inspect.signature(source).parameters:
        options["data_dir"] = data_dir
    return source(batch_size=settings.batch_size, **options)


def train(
    run: Run,
    settings: Training,
    model: keras.Model,
    data: tf.data.Dataset,
    validation: tf.data.Dataset,
    optimizer: Callable[[PiecewiseLinear], keras.optimizers.Optimizer],
    saved: keras.Model,
    **compile_options: Any,
) -> dict:
    """Compiles, trains and saves a model.

    Epochs go to log.csv, and to tensorboard/ if TensorBoard is installed. Training
    that was interrupted goes on after its last complete epoch.

    Args:
        run: whose folder to write to.
        settings: of the experiment.
        model: to train.
        data: training batches.
        validation: batches to validate on.
        optimizer: makes one, given the learning rate.
        saved: the model, or the part of it that is kept, in `MODEL`.
        **compile_options: of the model's `compile`.

    Returns:
        The number of steps and of parameters, and the last values of the log.
    """
    data = data.repeat(settings.passes)
    rate = PiecewiseLinear(*settings.learning_rate, steps_per_epoch=len(data))
    model.compile(optimizer(rate), **compile_options)
    backup, log = run / "backup", run / "log.csv"
    callbacks = [
        # The log first: an epoch that is backed up is in it.
        keras.callbacks.CSVLogger(log, append=True),
        # Twice, because an interruption may leave half a file. Kept until the model
        # is saved.
        keras.callbacks.BackupAndRestore(
            str(backup), double_checkpoint=True, delete_checkpoint=False
        ),
        EpochBar(settings.epochs),
    ]
    if importlib.util.find_spec("tensorboard"):
        callbacks.append(
            keras.callbacks.TensorBoard(str(run / "tensorboard"), write_graph=False)
        )
    model.fit(
        data,
        validation_data=validation,
        validation_freq=max(1, settings.epochs // 5),
        epochs=settings.epochs,
        verbose=0,
        callbacks=callbacks,
    )
    files.atomically(run / MODEL, saved.save)
    shutil.rmtree(backup)
    return {
        "steps": settings.epochs * len(data),
        "parameters": model.count_params(),
        "last": {name: values[-1][1] for name, values in read_log(log).items()},
    }


def read_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) of each column of a log, epochs counted from 1.

    An epoch that was interrupted after it was logged is there twice; the second one
    counts.
    """
    columns: dict[str, dict[int, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            epoch = int(row.pop("epoch")) + 1
            for name, value in row.items():
                if value != "NA":  # not every epoch is validated
                    columns.setdefault(name, {})[epoch] = float(value)
    return {name: sorted(values.items()) for name, values in columns.items()}
