"""What several test files share: one tiny model of each kind, and real digits."""

import collections
import gc
import os
import time

# TensorFlow reads these when it is imported, which the imports below do. At the tests'
# sizes compiling takes longer than what is compiled: with less of it they are a fifth
# shorter.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import keras
import numpy as np
import psutil
import pytest

import lps_tf as lps


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Workers take whole files (`--dist loadfile`), those of long tests first."""
    long = {
        item.path
        for item in items
        if item.get_closest_marker("slow") or item.get_closest_marker("essential")
    }
    items.sort(key=lambda i: (i.path.parent.name != "tutorials", i.path not in long))


# What takes longer is marked slow, and a run with --check-slow fails on what is not;
# but for the few long ones that `make test` is to have, which are marked essential.
# Of other work on the machine a test knows nothing: what counts is the lesser of its
# seconds and those of the processor. They are those of a machine that does
# `reference_work` in REFERENCE: on one half as fast, the limit is twice as long. What
# is over it is named, and what is over four times of it fails: other work on the
# machine makes the processor's seconds longer too.
LIMIT = 5.0
REFERENCE = 0.25
_durations = collections.defaultdict(float)
_used = pytest.StashKey()


def pytest_addoption(parser):
    text = f"name unmarked tests of more than {LIMIT:g} s; fail on 4 times of it"
    parser.addoption("--check-slow", action="store_true", help=text)


def reference_work():
    """Seconds of a loop in plain Python."""
    start = time.perf_counter()
    sum(i % 7 for i in range(5_000_000))
    return time.perf_counter() - start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    used = sum(os.times()[:4])  # this process, and those that it has waited for
    before = item.config.stash.get(_used, used - report.duration)
    report.processor_seconds = used - before
    item.config.stash[_used] = used
    return report


def pytest_runtest_logreport(report):
    marked = {"slow", "essential"} & set(report.keywords)
    if not marked and report.when != "teardown":
        # A worker that died has no report of its own, and must not hide which it was.
        seconds = getattr(report, "processor_seconds", report.duration)
        _durations[report.nodeid] += min(report.duration, seconds)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    config = session.config
    if hasattr(config, "workerinput") or not config.getoption("--check-slow"):
        return
    limit = LIMIT * max(1.0, reference_work() / REFERENCE)
    config.unmarked = {k: v for k, v in _durations.items() if v > limit}
    if any(v > 4 * limit for v in config.unmarked.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for name, seconds in getattr(config, "unmarked", {}).items():
        terminalreporter.write_line(f"NOT MARKED SLOW: {seconds:.1f} s {name}")


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """Drops what a file has compiled; no worker may hold more than 4 GB."""
    yield
    keras.backend.clear_session()
    gc.collect()
    gigabytes = psutil.Process().memory_info().rss / 1e9
    assert gigabytes < 4, f"this worker holds {gigabytes:.1f} GB"


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def as_they_were(request):
    """Leaves shared models to the next test uncompiled, and with their own radius."""
    yield
    for name in {"tiny_set", "tiny_classifier"} & set(request.fixturenames):
        model = request.getfixturevalue(name)
        assert not model.compiled, f"this test compiled {name}, which others use"
        if name == "tiny_set":
            model.radius = 2.0


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
