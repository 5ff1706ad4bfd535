"""Training that was interrupted comes to what it would have come to without."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from lps_tf.training.backup import Backup
from tests.training import killed

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


class Interrupt(keras.callbacks.Callback):
    """In the midst of the third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations.numpy() == 5:
            raise KeyboardInterrupt


def assert_same_weights(one, other):
    # Draws, schedules and optimizer count in weights, so not a bit differs.
    optimizers = one.optimizer.variables, other.optimizer.variables
    for of in ((one.weights, other.weights), optimizers):
        for a, b in zip(*of, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=a.path)


@pytest.mark.parametrize(
    "kind, backup",
    [
        ("set", keras.callbacks.BackupAndRestore),
        ("augmentation", Backup),
        ("attack", Backup),
    ],
)
def test_interrupted_training_resumes_to_the_same_weights(kind, backup, tmp_path):
    folder = tmp_path / "backup"
    whole, history = killed.fit(kind)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(kind, backup(folder), Interrupt())
    resumed, rest = killed.fit(kind, backup(folder))
    assert len(rest["loss"]) == killed.EPOCHS - 2
    assert rest["loss"] == history["loss"][2:]
    assert_same_weights(whole, resumed)
    # Another training starts where it says, not where that one was taken up.
    again = resumed.fit(killed.data(kind), epochs=1, verbose=0)
    assert len(again.history["loss"]) == 1
    assert not list(folder.glob("*"))


def test_a_killed_process_loses_at_most_an_epoch(tmp_path):
    # After a number of batches that is another one in every run of the tests.
    batches = int(np.random.default_rng().integers(1, 2 * killed.EPOCHS))
    process = subprocess.Popen(
        [sys.executable, killed.__file__, str(tmp_path / "backup")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        seen = sum(1 for _ in itertools.islice(process.stdout, batches))
        process.kill()
    assert seen == batches, "it ended by itself"
    resumed, rest = killed.fit("set", Backup(tmp_path / "backup"))
    whole, history = killed.fit("set")
    # Two batches make an epoch; it may have gone on before the signal came.
    finished = killed.EPOCHS - len(rest["loss"])
    assert finished >= (batches - 1) // 2, f"killed after {batches} batches"
    assert rest["loss"] == history["loss"][finished:]
    assert_same_weights(whole, resumed)
