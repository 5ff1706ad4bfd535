"""Data and training of an experiment, resumable and logged."""

import csv
import importlib.util
import inspect
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf import Backup, RobustClassifier, datasets
from lps_tf._internal import files
from lps_tf._internal.progress import EpochBar
from lps_tf.experiments.settings import Training
from lps_tf.experiments.stages import Stages
from lps_tf.training import multi_worker
from lps_tf.training.checked_model import CheckedModel
from lps_tf.training.schedules import PiecewiseLinear

#: Files of an experiment's folder: the trained model, the losses of each epoch, and
#: the state of a training that is not done.
MODEL, LOG, BACKUP = "models/model.keras", "log.csv", "backup"


def load(settings: Training, data_dir: str | Path | None) -> datasets.PairData:
    """Loads the data of an experiment.

    Args:
        settings: Settings of the experiment.
        data_dir: Folder of the data, for sources that keep them on disk.
    """
    source = getattr(datasets, settings.data)
    options = dict(settings.options)
    if data_dir is not None and "data_dir" in inspect.signature(source).parameters:
        options["data_dir"] = data_dir
    return source(batch_size=settings.batch_size, **options)


def train(
    run: Stages,
    settings: Training,
    make: Callable[[], CheckedModel],
    data: tf.data.Dataset,
    validation: tf.data.Dataset,
    optimizer: Callable[[PiecewiseLinear], keras.optimizers.Optimizer],
    strategy: tf.distribute.Strategy,
    **compile_options: Any,
) -> dict:
    """Makes, compiles, trains and saves a model.

    Set the seed before the data are made: their order depends on it. Epochs are logged
    in log.csv, and in tensorboard/ if TensorBoard is installed. An interrupted training
    resumes after its last complete epoch.

    Args:
        run: Folder to write to.
        settings: Settings of the experiment.
        make: Function that makes the model. Of a RobustClassifier, only the classifier
            is saved.
        data: Batches to train on.
        validation: Batches to validate on.
        optimizer: Function from a learning rate to an optimizer.
        strategy: Devices to train on. If they are of several machines, all of these
            have to call this function, and the chief alone writes.
        **compile_options: Further arguments of the model's `compile`.

    Returns:
        The number of steps and of parameters, and the last values of the log. Empty on
        a machine that is not the chief.
    """
    rate = PiecewiseLinear(*settings.learning_rate, steps_per_epoch=len(data))
    with strategy.scope():
        model = make()
        model.build((None, *data.element_spec[0].shape[1:]))
        model.compile(optimizer(rate), **compile_options)
    fit = _fit_on_machines if multi_worker.several_machines() else _fit
    fit(run, model, data, validation, settings.epochs)
    if not multi_worker.is_chief(strategy):
        return {}
    saved = model.classifier if isinstance(model, RobustClassifier) else model
    files.atomically(run / MODEL, saved.save)
    shutil.rmtree(run / BACKUP)
    log = read_log(run / LOG)
    return {
        "steps": settings.epochs * len(data),
        "parameters": model.count_params(),
        "last": {name: values[-1][1] for name, values in log.items()},
    }


def _fit(
    run: Stages,
    model: CheckedModel,
    data: tf.data.Dataset,
    validation: tf.data.Dataset,
    epochs: int,
) -> None:
    callbacks = [
        # Before the backup too, so that a resumed training has finite weights.
        keras.callbacks.LambdaCallback(on_epoch_end=require_finite),
        # Before the backup, so that every epoch that is backed up is logged.
        keras.callbacks.CSVLogger(run / LOG, append=True),
        # `train` deletes it once the model is saved.
        Backup(run / BACKUP, keep=True),
        *([EpochBar(epochs)] if run.verbose else []),
    ]
    if importlib.util.find_spec("tensorboard"):
        callbacks.append(
            keras.callbacks.TensorBoard(str(run / "tensorboard"), write_graph=False)
        )
    model.fit(
        data,
        validation_data=validation,
        validation_freq=max(1, epochs // 5),
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )


def require_finite(epoch: int, logs: Mapping[str, float]) -> None:
    """Raises ValueError if the loss of an epoch is not finite.

    Args:
        epoch: Number of the epoch, from 0.
        logs: Values of the epoch by name; NaN or infinity as "loss" raises.
    """
    if not np.isfinite(logs["loss"]):
        raise ValueError(
            f"Training has diverged: the loss of epoch {epoch + 1} is {logs['loss']}. "
            "Train with a lower learning rate or a longer warm-up, as in "
            "`experiments.run(..., changes={'learning_rate': ...})`. Nothing of this "
            "epoch was kept."
        )


def _fit_on_machines(
    run: Stages,
    model: CheckedModel,
    data: tf.data.Dataset,
    validation: tf.data.Dataset,
    epochs: int,
) -> None:
    history = multi_worker.fit(
        model,
        data,
        validation,
        epochs=epochs,
        directory=run / BACKUP,
        verbose=run.verbose,
    )
    if multi_worker.is_chief(model.distribute_strategy):
        rows = zip(range(epochs), *history.values(), strict=True)
        lines = [("epoch", *history), *rows]
        files.write_text(run / LOG, "\n".join(",".join(map(str, r)) for r in lines))


def read_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads pairs (epoch, value) of each column of a log, epochs counted from 1.

    An epoch that was logged and then repeated, because training was interrupted before
    it was backed up, has two rows; the second one counts.
    """
    columns: dict[str, dict[int, float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            epoch = int(row.pop("epoch")) + 1
            for name, value in row.items():
                if value != "NA":  # not every epoch is validated
                    columns.setdefault(name, {})[epoch] = float(value)
    return {name: sorted(values.items()) for name, values in columns.items()}
