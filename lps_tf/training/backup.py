"""The state of a training in a file, for the training to go on after it was stopped."""

import io
import json
from pathlib import Path

import keras
import numpy as np

from lps_tf._internal import files

#: Means of each epoch by name, as in Keras's History.
History = dict[str, list[float]]


class State:
    """Weights, optimizer, random generators and logs, in a file whole or not there.

    Args:
        model: Model, built and compiled with a built optimizer.
        path: Path of the file, whose name ends with .npz.
    """

    def __init__(self, model: keras.Model, path: str | Path):
        self._path = Path(path)
        metrics = {id(variable) for variable in model.metrics_variables}
        own = [v for v in model.variables if id(v) not in metrics]
        self._variables: list[keras.Variable] = [*own, *model.optimizer.variables]

    def save(self, epochs: int, history: History) -> None:
        """Keeps what the model is after a number of epochs."""
        arrays = {f"{i}": v.numpy() for i, v in enumerate(self._variables)}
        progress = json.dumps({"epochs": epochs, "history": history})
        content = io.BytesIO()
        np.savez(content, progress=progress, **arrays)
        files.write(self._path, content.getvalue())

    def restore(self) -> tuple[int, History]:
        """Gives the model what was saved, if something was.

        Returns:
            The number of finished epochs, and their logs.

        Raises:
            ValueError: If it is the state of another model or optimizer.
        """
        if not self._path.exists():
            return 0, {}
        with np.load(self._path) as saved:
            shapes = [saved[f"{i}"].shape for i in range(len(saved.files) - 1)]
            if shapes != [tuple(v.shape) for v in self._variables]:
                raise ValueError(
                    f"{self._path} does not fit this model: it holds the state of "
                    "another one, or of another optimizer. Choose another folder, or "
                    "delete it."
                )
            for i, variable in enumerate(self._variables):
                variable.assign(saved[f"{i}"])
            progress = json.loads(str(saved["progress"]))
        return progress["epochs"], progress["history"]

    def delete(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


class Backup(keras.callbacks.Callback):
    """Lets `fit` go on after the last whole epoch when it is called again.

    What `keras.callbacks.BackupAndRestore` does, in one file instead of two: whenever
    the process is killed, it is that of an epoch. Once training has ended it is gone.

    Example:
        pset.fit(pairs, epochs=20, callbacks=[Backup("runs/digits")])

    Args:
        directory: Directory where the file `state.npz` is kept.
        keep: Whether it stays when training has ended, for what is still to be done
            with the model.
    """

    def __init__(self, directory: str | Path, keep: bool = False):
        super().__init__()
        self.keep = keep
        self._path = Path(directory) / "state.npz"

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores the model."""
        self.model.optimizer.build(self.model.trainable_variables)
        self._state = State(self.model, self._path)
        epochs, self._history = self._state.restore()
        self.model._initial_epoch = epochs  # where Keras's own callback puts it

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the state."""
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        self._state.save(epoch + 1, self._history)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Removes the state, if it is not to be kept."""
        if not self.keep:
            self._state.delete()
