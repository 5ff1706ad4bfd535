"""What several test files share: one tiny model of each kind, and real digits."""

import os

# TensorFlow reads it when it is imported, which the imports below do.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import lps_tf as lps  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Several workers get a file each, slow ones first; a mark may divide a file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda i: (i.path.stem != "test_tutorials", i.path not in slow))
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_set():
    """A set of 12x12 images whose four latents all show; tests must not change it."""
    keras.utils.set_random_seed(0)
    pset = lps.PerturbationSet.from_network(
        "mnist_stn", latent_dim=4, transformers=2, localisation=(16, 8)
    )
    pset.build((None, 12, 12, 1))
    # The affine maps start at zero: without noise the latent would do nothing.
    random = np.random.RandomState(0)
    for weight in pset.trainable_variables:
        scale = 0.05 if len(weight.shape) == 1 else 0.1
        weight.assign_add(random.normal(0, scale, weight.shape))
    pset.radius = 2.0
    return pset


@pytest.fixture(scope="session")
def images():
    return np.random.RandomState(1).uniform(size=(6, 12, 12, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def labels():
    return np.array([0, 1, 2, 0, 1, 2])


@pytest.fixture(scope="session")
def tiny_classifier():
    # With this seed the answer differs between images, and within one image's set.
    keras.utils.set_random_seed(4)
    return lps.networks.classifiers.small_cnn((12, 12, 1), 3, filters=(4,), units=8)


@pytest.fixture(scope="session")
def digits():
    return lps.datasets.digits_rts(batch_size=32, draws=2, group=3)
