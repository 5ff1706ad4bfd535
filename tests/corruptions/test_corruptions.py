"""The common corruptions: the original generator's output, streams, sizes, errors."""

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from lps_tf import corruptions
from lps_tf.corruptions import CORRUPTIONS, PARAMETERS, corrupt
from lps_tf.corruptions.streams import Streams

ROOT = pathlib.Path(__file__).parents[2]
# What the original generator made of 16 images: pictures where nothing is random,
# otherwise the mean squared difference to the clean image and the mean shift.
GOLDEN = dict(np.load(ROOT / "tests" / "golden" / "corruptions.npz"))
CLEAN = GOLDEN["clean"]
FIXED = [name for name in CORRUPTIONS if name in GOLDEN]
RANDOM = [name for name in CORRUPTIONS if name not in FIXED]
SEVERITIES = range(1, 6)


def photographs(shape, dtype=np.uint8, n=2):
    """Smooth coloured images of any shape (height, width, channels)."""
    noise = np.random.RandomState(3).uniform(size=(n, *shape))
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0), mode="wrap")
    low, high = smooth.min((1, 2), keepdims=True), smooth.max((1, 2), keepdims=True)
    x = (smooth - low) / (high - low)
    return (255 * x).astype(np.uint8) if dtype == np.uint8 else x.astype(dtype)


def difference(x, y):
    return x.astype(np.float64) / 255 - y.astype(np.float64) / 255


def test_every_corruption_has_its_place():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 19
    assert set(CORRUPTIONS) == set(PARAMETERS)
    assert {len(settings) for settings in PARAMETERS.values()} == {5}
    assert len(set(corruptions.PAPER)) == 12 and len(FIXED) == 8
    held_back = set(corruptions.OUT_OF_DISTRIBUTION)
    noises = {name for name in CORRUPTIONS if name.endswith("_noise")}
    assert set(corruptions.PAPER) | held_back | noises == set(CORRUPTIONS)


# Against the original


@pytest.mark.parametrize("name", FIXED)
def test_without_randomness_pictures_are_the_originals(name):
    for severity in SEVERITIES:
        result = corrupt(CLEAN, name, severity)
        away = 255 * np.abs(difference(result, GOLDEN[name][severity - 1]))
        assert away.mean((1, 2, 3)).max() < 0.3, severity


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "frost"])
def test_random_corruptions_are_as_strong_as_the_originals(name):
    ratios = []
    for severity in SEVERITIES:
        draws = [corrupt(CLEAN, name, severity, seed) for seed in range(12)]
        change = difference(np.stack(draws), CLEAN)
        ratios.append(np.mean(change**2) / GOLDEN[f"{name}_mse"][severity - 1].mean())
        shift = GOLDEN[f"{name}_mean_shift"][severity - 1].mean()
        assert abs(change.mean() - shift) < 0.012, severity
    np.testing.assert_allclose(ratios, 1, atol=0.2)
    np.testing.assert_allclose(np.mean(ratios), 1, atol=0.06)


def test_a_higher_severity_is_a_larger_difference_where_the_originals_is():
    compared = 0
    for name in set(CORRUPTIONS) - {"frost"}:
        if name in FIXED:
            original = np.mean(difference(GOLDEN[name], CLEAN) ** 2, (1, 2, 3, 4))
        else:
            original = GOLDEN[f"{name}_mse"].mean(1)
        if (np.diff(original) > 0).all():
            changes = [difference(corrupt(CLEAN, name, s), CLEAN) for s in SEVERITIES]
            assert (np.diff([np.mean(c**2) for c in changes]) > 0).all(), name
            compared += 1
    assert compared >= 12


# The images' streams of random numbers


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_gives_the_same_bits_in_any_batch(name, dtype, monkeypatch):
    shape = (24, 21, 3)
    images = photographs(shape, dtype, n=7)
    images[2] = images[0]
    index = np.array([3, 5, 11, 2**40, 0, 8, 1])
    whole = corrupt(images, name, 4, seed=9, index=index)
    for i in range(7):
        alone = corrupt(images[i : i + 1], name, 4, seed=9, index=index[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])
    monkeypatch.setattr(corruptions, "_CHUNK", 3 * np.prod(shape))
    order = np.array([6, 0, 3, 2, 1, 5, 4])
    mixed = corrupt(images[order], name, 4, seed=9, index=index[order])
    np.testing.assert_array_equal(mixed, whole[order])
    assert (name in RANDOM) == bool(np.any(whole[2] != whole[0]))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_seed_and_index_matter_where_something_is_random(name):
    results = [
        corrupt(CLEAN, name, 3),
        corrupt(CLEAN, name, 3, seed=1),
        corrupt(CLEAN, name, 3, index=np.arange(16) + 16),
        corrupt(CLEAN, name, 3, seed=2**63 + 1),
    ]
    np.testing.assert_array_equal(results[0], corrupt(CLEAN, name, 3, index=range(16)))
    for i, result in enumerate(results[1:]):
        changed = np.any(result != results[i], (1, 2, 3))
        # Two directions of motion blur may come to the same pixels.
        assert changed.mean() > 0.6 if name in RANDOM else not changed.any()


def test_streams_of_different_draws_images_and_names_are_unrelated():
    streams = [
        Streams(seed, name, severity, np.array([0, 1, 256]))
        for seed in (0, 1)
        for name in ("fog", "snow")
        for severity in (1, 2)
    ]
    draws = [s.uniform(2000) for s in streams] + [s.uniform(2000) for s in streams]
    correlation = np.corrcoef(np.concatenate(draws)) - np.eye(48)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def digest():
    images = photographs((16, 20, 3), n=3)
    results = [corrupt(images, name, s, seed=7) for name in CORRUPTIONS for s in (1, 5)]
    return hashlib.sha256(np.stack(results)).hexdigest()


@pytest.mark.slow
def test_another_process_gives_the_same_bits():
    code = "from tests.corruptions import test_corruptions as t; print(t.digest())"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "5"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.split()[-1] == digest()


# Sizes and types


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(16, 16, 1), (17, 40, 3), (40, 17, 1), (65, 33, 3)])
def test_any_size_and_type(name, shape):
    for severity in (1, 3, 5):
        results = {}
        for dtype in (np.uint8, np.float16, np.float32, np.float64):
            images = photographs(shape, dtype)
            images.flags.writeable = False  # an attempt to change them would raise
            result = corrupt(images, name, severity)
            assert result.shape == images.shape and result.dtype == images.dtype
            assert np.isfinite(result).all()
            if dtype != np.uint8:
                assert result.min() >= 0 and result.max() <= 1
            results[dtype] = result
            same = name == "saturate" and shape[2] == 1 and severity < 4
            assert (
                np.allclose(np.float64(result), np.float64(images), atol=1e-3) == same
            )
        np.testing.assert_allclose(results[np.float64], results[np.float32], atol=1e-6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_bytes_are_the_truncated_floats(name):
    # In between neither rounds to 8 bits, JPEG aside; Pillow's box filter rounds.
    for severity in SEVERITIES:
        result = corrupt(CLEAN, name, severity).astype(np.float32)
        exact = 255 * corrupt(CLEAN / np.float32(255), name, severity)
        if name == "pixelate":
            exact = exact + 0.5
        assert np.all(result <= exact + 2e-3) and np.all(exact < result + 1 + 2e-3)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_an_even_image_stays_as_it_is_where_pixels_only_mix(value):
    images = np.full((2, 18, 23, 3), value, np.uint8)
    names = [name for name in CORRUPTIONS if name.endswith("_blur")]
    for name in [*names, "contrast", "elastic_transform", "pixelate"]:
        for severity in SEVERITIES:
            np.testing.assert_array_equal(corrupt(images, name, severity), images)


# Wrong input


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"name": "rain"},
            "`name` must be one of .*gaussian_noise.*Received: name=rain",
        ),
        ({"severity": 0}, "must be one of 1 to 5. Received: severity=0"),
        ({"severity": 6}, "must be one of 1 to 5. Received: severity=6"),
        ({"severity": 2.5}, "must be one of 1 to 5. Received: severity=2.5"),
        ({"severity": "3"}, "must be one of 1 to 5. Received: severity=3"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0"),
        ({"seed": None}, "`seed` must be a number"),
        ({"images": np.zeros((2, 16, 16, 3), int)}, "must be uint8, or floats .*int64"),
        ({"images": np.zeros((2, 16, 16, 3), np.int8)}, "Received dtype int8"),
        ({"images": np.zeros((2, 16, 16, 3), bool)}, "Received dtype bool"),
        ({"images": np.zeros((16, 16, 3))}, "rank 3"),
        ({"images": np.zeros((0, 16, 16, 3))}, "empty"),
        ({"images": np.zeros((2, 15, 16, 3))}, "at least 16 .*15, 16"),
        ({"images": np.zeros((2, 16, 15, 3))}, "at least 16 .*16, 15"),
        ({"images": np.zeros((2, 16, 16, 4))}, "1 or 3 channels"),
        ({"images": np.full((2, 16, 16, 3), np.nan)}, "NaN"),
        ({"images": np.full((2, 16, 16, 3), 1.5)}, r"in \[0, 1\].*1.5"),
        ({"images": np.full((2, 16, 16, 3), -0.5)}, r"in \[0, 1\].*-0.5"),
        ({"index": [0]}, r"each of the 2 images. Received shape \(1,\)"),
        ({"index": [[0, 1]]}, r"each of the 2 images. Received shape \(1, 2\)"),
        ({"index": [0, -1]}, "`index` must hold .* at least 0"),
        ({"index": [0.0, 1.0]}, "dtype float64"),
    ],
)
def test_wrong_input_is_named(change, message):
    arguments = {"images": np.zeros((2, 16, 16, 3), np.uint8), "name": "fog", **change}
    with pytest.raises(ValueError, match=message):
        corrupt(**arguments)
