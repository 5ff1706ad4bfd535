"""Two devices train as one would on the same batches; see halves.py."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import halves
from tests.training import on_two_devices

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("two_devices") / "results.pkl"
    subprocess.run(
        [sys.executable, on_two_devices.__file__, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return pickle.loads(path.read_bytes())


@pytest.mark.parametrize("case", halves.SETS + halves.CLASSIFIERS)
def test_weights_and_logs_are_those_of_one_device(results, case):
    weights = list(results[case]["weights"].values())
    halves.assert_same_training(case, results[case]["history"], weights)


@pytest.mark.parametrize("case", halves.SETS + halves.CLASSIFIERS)
def test_replicas_stay_in_step(results, case):
    assert results[case]["apart"] == 0


def test_batch_norm_takes_the_mean_of_its_replicas(results):
    # The prior's first layer sees the images themselves.
    mean, images = 0.0, halves.IMAGES
    for _ in range(halves.EPOCHS):
        for i in range(0, len(images), halves.BATCH):
            batch = images[i : i + halves.BATCH]
            middle = (len(batch) + 1) // 2
            of_replicas = batch[:middle].mean(), batch[middle:].mean()
            mean += 0.1 * (np.mean(of_replicas) - mean)
    weights = results["mnist_stn"]["weights"]
    found = next(v for k, v in weights.items() if k.endswith("batch_norm/moving_mean"))
    np.testing.assert_allclose(found, [mean], rtol=1e-5)


def test_what_replicas_cannot_do_is_named(results):
    few, *refused = results["errors"]
    assert "at least 2 examples" in few and "Received a batch of 1" in few
    names = ("jit_compile", "steps_per_execution", "gradient_accumulation_steps")
    for error, name in zip(refused, names, strict=True):
        assert f"Keras has no `{name}` under a distribution strategy" in error
