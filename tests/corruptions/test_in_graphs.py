"""Corruptions inside tf.data, and without TensorFlow; what large images cost."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from lps_tf.corruptions import CORRUPTIONS, corrupt, corrupt_tensor
from tests.benchmarks.bench_corruptions import (
    BLURS,
    MEMORY,
    blur,
    cost,
    cpu_seconds,
)
from tests.corruptions.test_corruptions import photographs

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["fog", "gaussian_noise", "jpeg_compression"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_mapped_data_set_has_the_images_of_corrupt(name, dtype):
    images = photographs((16, 20, 3), dtype, n=7)
    labels = np.arange(7)
    expected = corrupt(images, name, 3, seed=4)
    data = tf.data.Dataset.from_tensor_slices((images, labels))

    def alone(i, example):
        x, y = example
        return corrupt_tensor(x, i, name, severity=3, seed=4), y

    def in_batches(i, example):
        x, y = example
        return corrupt_tensor(x, 3 * i, name, severity=3, seed=4), y

    for mapped in (
        data.enumerate().map(alone, tf.data.AUTOTUNE).batch(3),
        data.batch(3).enumerate().map(in_batches, tf.data.AUTOTUNE),
        data.batch(3).map(  # numbers of their own
            lambda x, y: (corrupt_tensor(x, y, name, severity=3, seed=4), y)
        ),
    ):
        assert mapped.element_spec[0].shape.as_list() == [None, 16, 20, 3]
        assert mapped.element_spec[0].dtype == dtype
        x, y = (
            np.concatenate(c) for c in zip(*mapped.as_numpy_iterator(), strict=True)
        )
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(y, labels)
    np.testing.assert_array_equal(
        corrupt_tensor(images, 0, name, severity=3, seed=4), expected
    )


def test_wrong_tensors_are_named():
    images = tf.zeros((2, 16, 16, 3))
    with pytest.raises(ValueError, match="Received: name=rain"):
        corrupt_tensor(images, 0, "rain")
    with pytest.raises(ValueError, match=r"`tf.ensure_shape` tells .*\(16, 16\)"):
        corrupt_tensor(images[0, ..., 0], 0, "fog")
    data = tf.data.Dataset.from_tensors(images)
    with pytest.raises(ValueError, match="call `corrupt_tensor` there"):
        data.map(lambda x: corrupt(x, "fog"))
    for wrong, index, message in (
        (images + 1.5, 0, r"must lie in \[0, 1\]"),
        (images, [0, 1, 2], "each of the 2 images"),
    ):
        data = tf.data.Dataset.from_tensors(wrong)
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            list(data.map(lambda x, i=index: corrupt_tensor(x, i, "fog")))


def test_nothing_else_is_imported():
    # Stand-ins for the package itself: what its own __init__ imports is another matter.
    code = f"""
import sys, types
for name in ("lps_tf", "lps_tf._internal"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(ROOT)!r} + "/" + name.replace(".", "/")]
import numpy as np
from lps_tf.corruptions import CORRUPTIONS, corrupt
for name in CORRUPTIONS:
    corrupt(np.zeros((1, 16, 16, 3)), name)
print(sorted({{"tensorflow", "keras", "tensorflow_datasets", "matplotlib"}}
             & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_first_large_image_costs_a_few_blurs_and_a_gigabyte_at_most(name):
    limit = BLURS * cpu_seconds(blur)
    for severity in (1, 2, 3, 4, 5):
        seconds, memory = cost(name, severity)
        assert seconds < limit and memory < MEMORY, severity
