"""Errors under corruptions, against those counted by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.corruptions import BENCHMARK, CORRUPTIONS, PAPER, corrupt
from lps_tf.robustness.corruption_report import CorruptionReport
from tests.robustness.by_hand import Pixels, data_of, label_maps

NAMES = ("fog", "contrast")


@keras.saving.register_keras_serializable("tests")
class Spread(keras.layers.Layer):
    """Class 1 where pixels differ much from each other, class 0 where they are even."""

    def __init__(self, least=0.15):
        super().__init__()
        self.least = self.add_weight(shape=(), initializer="zeros")
        self.least.assign(least)

    def call(self, x, training=False):
        spread = tf.math.reduce_std(x, (1, 2, 3))
        zeros = tf.zeros_like(spread)
        return 10 * tf.stack([zeros, spread - self.least, zeros - 1], -1)


@pytest.fixture(scope="module")
def images():
    random = np.random.RandomState(0)
    scale = np.linspace(0.2, 1, 11)[:, None, None, None]
    x = 0.5 + scale * (random.rand(11, 16, 16, 1) - 0.5)
    # Bytes, as images of files are.
    return np.float32(np.round(255 * x)) / 255, np.int64(
        np.isin(np.arange(11), [1, 5, 6, 8, 10])
    )


def by_hand(x, y, name, severity, least=0.15):
    bytes_of = np.uint8(np.round(255 * x))
    spread = (corrupt(bytes_of, name, severity) / 255).std((1, 2, 3))
    return np.mean((spread > least) != y)


def errors(*args, **kwargs):
    return lps.corruption_errors(*args, corruptions=NAMES, verbose=False, **kwargs)


def test_errors_are_those_counted_by_hand(images):
    x, y = images
    for data in ((x, y), data_of(x, y, batch=4)):
        report = errors(Spread(), data, batch_size=4)
        assert report.n == 11 and tuple(report.errors) == NAMES
        assert report.clean == pytest.approx(np.mean((x.std((1, 2, 3)) > 0.15) != y))
        for name in NAMES:
            expected = [by_hand(x, y, name, severity) for severity in range(1, 6)]
            assert report.errors[name] == pytest.approx(expected)
            assert len(set(expected)) > 1
        assert report.mean_error == np.mean([report.errors[name] for name in NAMES])


def test_a_limit_takes_the_first_images(images):
    x, y = images
    report = errors(Spread(), (x, y), batch_size=4, limit=6)
    assert report.n == 6
    assert report.errors["fog"][0] == pytest.approx(by_hand(x[:6], y[:6], "fog", 1))


def test_the_mean_corruption_error_is_that_of_its_definition(images):
    report, baseline = (errors(Spread(v), images) for v in (0.15, 0.05))
    ratios = [
        np.sum([by_hand(*images, name, s) for s in range(1, 6)])
        / np.sum([by_hand(*images, name, s, 0.05) for s in range(1, 6)])
        for name in NAMES
    ]
    found = report.mean_corruption_error(baseline)
    assert found == pytest.approx(np.mean(ratios))
    # Not the same as the ratio of mean errors.
    assert abs(found - report.mean_error / baseline.mean_error) > 1e-3
    assert report.mean_corruption_error(report) == pytest.approx(1)


def test_a_baseline_of_other_images_or_without_errors_is_refused():
    report = CorruptionReport("x", 10, 0.1, {"fog": (0.1,) * 5})
    for other in (
        CorruptionReport("x", 10, 0.1, {"snow": (0.1,) * 5}),
        CorruptionReport("y", 10, 0.1, {"fog": (0.1,) * 5}),
        CorruptionReport("x", 20, 0.1, {"fog": (0.1,) * 5}),
    ):
        with pytest.raises(ValueError, match=r"`baseline` must be of the same images"):
            report.mean_corruption_error(other)
    none = CorruptionReport("x", 10, 0.0, {"fog": (0.0,) * 5})
    with pytest.raises(ValueError, match="no error under fog"):
        report.mean_corruption_error(none)


def test_images_that_are_corrupted_already(images):
    asked = []

    def published(name, severity):
        asked.append((name, severity))
        x, y = images
        x = corrupt(np.uint8(np.round(255 * x)), name, severity).astype(np.float32)
        return tf.data.Dataset.from_tensor_slices((x / 255, y)).batch(4)

    report = errors(Spread(), published)
    assert report.clean is None and report.data == "published"
    assert asked == [(name, s) for name in NAMES for s in range(1, 6)]
    assert report.errors == errors(Spread(), images).errors


def test_results_of_finished_batches_are_kept(images, tmp_path):
    first = errors(Spread(), images, directory=tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert "fog_3-00000.npz" in files
    assert errors(Spread(), images, directory=tmp_path) == first
    with pytest.raises(ValueError, match="results of other settings"):
        errors(Spread(0.3), images, directory=tmp_path)


def test_the_report_is_a_table_a_figure_and_a_file(images, tmp_path):
    report = errors(Spread(), images)
    first = np.mean([report.errors[name][0] for name in NAMES])
    assert f"{first:.1%} at severity 1" in report.summary()
    lines = str(report).splitlines()
    assert lines[3].split() == ["error", "at", "severity", *"12345", "mean"]
    assert [line.split()[0] for line in lines[4:]] == [*NAMES, "mean"]
    assert lines[-1].endswith(f"{100 * report.mean_error:.1f}%")
    assert "<td" in report._repr_html_()
    assert list(report.plot(tmp_path)) == ["corruptions"]
    assert (tmp_path / "corruptions.png").exists()
    report.to_json(tmp_path / "report.json")
    assert CorruptionReport.load(tmp_path / "report.json") == report
    assert report.to_dict()["errors"]["fog"] == list(report.errors["fog"])


def test_what_cannot_be_measured_is_refused(images):
    with pytest.raises(ValueError, match=r"`corruptions` must be names.*'rain'"):
        lps.corruption_errors(Spread(), images, corruptions=["rain"])
    with pytest.raises(ValueError, match="`limit` must be"):
        errors(Spread(), images, limit=0)
    groups, y = label_maps()
    maps = np.tile(groups[:, 0], (1, 4, 3, 1)), np.tile(y, (1, 4, 3))
    with pytest.raises(ValueError, match="Corruptions move pixels"):
        errors(Pixels(segments=True), maps)


def test_the_benchmark_is_of_fifteen():
    extra = {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert set(BENCHMARK) == set(CORRUPTIONS) - extra and len(BENCHMARK) == 15
    assert set(PAPER) < set(BENCHMARK)
