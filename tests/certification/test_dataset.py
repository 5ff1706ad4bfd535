"""Certifying data sets: blocks on disk, shards, merging."""

import itertools
import json
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf import certification
from lps_tf._internal import files
from lps_tf.certification import CertificationReport, certify_dataset, compare, merge

IMAGES = 23
QUICK = {"n0": 5, "n": 40, "images_per_file": 4, "verbose": False}


class Weights:
    """As much of a network as certifying a data set looks at."""

    def __init__(self, answers=()):
        self.weights = [np.arange(3.0)]
        self.answers = answers

    def get_weights(self):
        return self.weights

    def digest(self):
        return files.digest(*self.weights)

    def __call__(self, x, training=False):
        return tf.zeros((len(x), *self.answers, 3))


class Fake:
    """Certificates drawn from the seed, the image's number and the image itself."""

    resolvable = False

    def __init__(self, sigma=0.5, seed=0, correction="holm", answers=(), stop=None):
        self.sigma, self.seed, self.correction = sigma, seed, correction
        self.classifier, self.perturbation_set = Weights(answers), Weights()
        self.calls, self.stop = [], stop

    def certify(
        self, images, n0, n, alpha, *, target_radius, share, index, verbose=True
    ):
        if len(self.calls) == self.stop:
            raise KeyboardInterrupt
        self.calls.append(list(index))
        columns = []
        for i, image in zip(index, images, strict=True):
            entropy = [self.seed, int(i), int(1e6 * image.sum()), n]
            random = np.random.default_rng(entropy)
            prediction = random.integers(-1, 3, self.classifier.answers)
            radius = random.uniform(0, 2, self.classifier.answers)
            radius = np.where(prediction < 0, 0.0, radius)
            columns.append((prediction, radius, 0.5 + radius / 5, n0 + n))
        arrays = map(np.array, zip(*columns, strict=True))
        return lps.Certificate(*arrays, alpha)


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    x = random.uniform(size=(IMAGES, 6, 6, 1)).astype(np.float32)
    return x, random.integers(0, 3, IMAGES)


@pytest.fixture
def data(arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(5)


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_every_image_is_certified_with_its_own_number(tmp_path, arrays, data):
    fake = Fake()
    found = certify_dataset(fake, data, tmp_path, **QUICK)
    # Blocks of four out of batches of five, the last one smaller.
    assert [len(call) for call in fake.calls] == [4, 4, 4, 4, 4, 3]
    whole = Fake().certify(
        arrays[0], 5, 40, 1e-3, target_radius=None, share=None, index=range(IMAGES)
    )
    np.testing.assert_array_equal(found.index, np.arange(IMAGES))
    np.testing.assert_array_equal(found.labels, arrays[1])
    np.testing.assert_array_equal(found.prediction, whole.prediction)
    np.testing.assert_array_equal(found.radius, whole.radius)
    np.testing.assert_array_equal(found.samples, whole.samples)
    with np.load(tmp_path / "block_000005.npz") as last:
        np.testing.assert_array_equal(last["p_lower"], whole.p_lower[20:])
    # Arrays and data sets are the same data.
    certify_dataset(Fake(), arrays, tmp_path, **QUICK)


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, data, stop):
    certify_dataset(Fake(), data, tmp_path / "whole", **QUICK)
    with pytest.raises(KeyboardInterrupt):
        certify_dataset(Fake(stop=stop), data, tmp_path / "stopped", **QUICK)
    assert len(list((tmp_path / "stopped").glob("*.npz"))) == stop
    again = Fake()
    certify_dataset(again, data, tmp_path / "stopped", **QUICK)
    assert len(again.calls) == 6 - stop  # what was done is not done again
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_damaged_and_half_written_files_are_certified_again(tmp_path, data):
    certify_dataset(Fake(), data, tmp_path, **QUICK)
    before = content(tmp_path)
    block = tmp_path / "block_000002.npz"
    block.rename(tmp_path / ".123.block_000002.npz")  # killed before the renaming
    (tmp_path / "block_000003.npz").write_bytes(before["block_000003.npz"][:200])
    (tmp_path / "block_000004.npz").write_bytes(b"")
    # Block 5 under the name of another one is not that other one.
    (tmp_path / "block_000001.npz").write_bytes(before["block_000005.npz"])
    assert list(CertificationReport.load(tmp_path).index) == [0, 1, 2, 3, 20, 21, 22]
    again = Fake()
    certify_dataset(again, data, tmp_path, **QUICK)
    assert [call[0] for call in again.calls] == [4, 8, 12, 16]
    (tmp_path / ".123.block_000002.npz").unlink()
    assert content(tmp_path) == before


@pytest.mark.parametrize("shared", [False, True])
def test_shards_together_are_the_whole(tmp_path, data, shared):
    whole = certify_dataset(Fake(), data, tmp_path / "whole", **QUICK)
    folders = [tmp_path / ("all" if shared else f"shard{i}") for i in (1, 2, 3, 4)]
    calls = []
    for i in (4, 2, 1, 3):
        fake = Fake()
        certify_dataset(fake, data, folders[i - 1], shard=(i, 4), **QUICK)
        calls += itertools.chain.from_iterable(fake.calls)
    assert sorted(calls) == list(range(IMAGES))  # each image once
    merged = merge(set(folders), tmp_path / "merged")
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert merged.to_json() == whole.to_json()
    # Merging again, into one of the folders, changes nothing.
    merge([tmp_path / "merged", *folders], tmp_path / "merged")
    assert content(tmp_path / "merged") == content(tmp_path / "whole")


class Helped(Fake):
    """Calls `help` while it certifies its first block."""

    def __init__(self, help, **options):
        super().__init__(**options)
        self.help = help

    def certify(self, *arguments, **options):
        found = super().certify(*arguments, **options)
        if len(self.calls) == 1:
            self.help()
        return found


def test_processes_that_share_a_queue_do_each_block_once(tmp_path, data):
    certify_dataset(Fake(), data, tmp_path / "one", **QUICK)
    other = Fake()
    first = Helped(
        lambda: certify_dataset(other, data, tmp_path / "both", queue=True, **QUICK)
    )
    certify_dataset(first, data, tmp_path / "both", queue=True, **QUICK)
    assert first.calls == [[0, 1, 2, 3]] and len(other.calls) == 5
    assert content(tmp_path / "both") == content(tmp_path / "one")


def test_a_queue_goes_on_where_a_process_was_stopped(tmp_path, data, monkeypatch):
    certify_dataset(Fake(), data, tmp_path / "one", **QUICK)
    with pytest.raises(KeyboardInterrupt):
        certify_dataset(Fake(stop=2), data, tmp_path / "q", queue=True, **QUICK)
    assert not list((tmp_path / "q").glob(".*"))
    # One that was killed could not give back what it had taken.
    (tmp_path / "q" / ".block_000004.npz.taken").touch()
    certify_dataset(Fake(), data, tmp_path / "q", queue=True, **QUICK)
    assert not (tmp_path / "q" / "block_000004.npz").exists()
    later = time.time() + 3700
    monkeypatch.setattr(time, "time", lambda: later)
    certify_dataset(Fake(), data, tmp_path / "q", queue=True, **QUICK)
    assert content(tmp_path / "q") == content(tmp_path / "one")


def test_what_cannot_be_certified_leaves_nothing_taken(tmp_path, data):
    class Broken(Fake):
        def certify(self, *_, **__):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        certify_dataset(Broken(), data, tmp_path / "q", queue=True, **QUICK)
    assert not list((tmp_path / "q").iterdir())
    with pytest.raises(ValueError, match="pass one of them"):
        certify_dataset(Fake(), data, tmp_path, queue=True, shard=(1, 2), **QUICK)


def test_a_shard_reports_its_share(tmp_path, data):
    found = certify_dataset(Fake(), data, tmp_path, shard=(2, 4), **QUICK)
    assert list(found.index) == [4, 5, 6, 7, 20, 21, 22]
    assert found.images == 7 and "7 of 23" in str(found)
    with pytest.raises(ValueError, match=r"7/7 has nothing to do.*at most 6 shards"):
        certify_dataset(Fake(), data, tmp_path, shard=(7, 7), **QUICK)
    # The rest can be done by one process in the same folder.
    assert certify_dataset(Fake(), data, tmp_path, **QUICK).images == IMAGES


def test_merging_names_what_is_missing(tmp_path, data):
    folders = [tmp_path / f"{i}" for i in (1, 2, 3, 4)]
    for i in (1, 2, 4):
        certify_dataset(Fake(), data, folders[i - 1], shard=(i, 4), **QUICK)
    (folders[1] / "block_000005.npz").unlink()
    # Shard 3 has the one block of 8 to 11, and of shard 2 the last one is away.
    message = "7 of 23 images are missing or damaged: 8-11, 20-22."
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        merge([folders[0], folders[1], folders[3]], tmp_path / "merged")
    assert str(error.value).endswith("2/4, 3/4.")
    assert not (tmp_path / "merged").exists()


def test_merging_refuses_contradictions_and_other_settings(tmp_path, data):
    certify_dataset(Fake(), data, tmp_path / "a", **QUICK)
    certify_dataset(Fake(), data, tmp_path / "b", **QUICK)
    path = tmp_path / "b" / "block_000001.npz"
    with np.load(path) as file:
        block = dict(file)
    block["radius"][2] += 1e-9
    np.savez(path, **block)
    with pytest.raises(ValueError, match=r"block_000001.npz have different certific"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    certify_dataset(Fake(sigma=0.6), data, tmp_path / "d", **QUICK)
    with pytest.raises(ValueError, match=r"sigma is 0.6 there, 0.5 here"):
        merge([tmp_path / "a", tmp_path / "d"], tmp_path / "c")
    with pytest.raises(ValueError, match="other settings: sigma"):
        merge([tmp_path / "a"], tmp_path / "d")
    assert not (tmp_path / "c").exists()
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([], tmp_path / "c")
    with pytest.raises(ValueError, match="holds no results"):
        merge([tmp_path / "a", tmp_path / "nowhere"], tmp_path / "c")


CHANGES = {
    "sigma": lambda fake, options, x, y: setattr(fake, "sigma", 0.7),
    "seed": lambda fake, options, x, y: setattr(fake, "seed", 1),
    "correction": lambda fake, options, x, y: setattr(fake, "correction", "none"),
    "n0": lambda fake, options, x, y: options.update(n0=6),
    "n": lambda fake, options, x, y: options.update(n=41),
    "alpha": lambda fake, options, x, y: options.update(alpha=0.01),
    "share": lambda fake, options, x, y: options.update(share=0.1),
    "target_radius": lambda fake, options, x, y: options.update(target_radius=0.3),
    "images_per_file": lambda fake, options, x, y: options.update(images_per_file=5),
    "images": lambda fake, options, x, y: options.update(limit=22),
    "classifier": lambda fake, options, x, y: fake.classifier.weights[0].put(1, 9),
    "perturbation_set": lambda fake, options, x, y: (
        fake.perturbation_set.weights.append(np.zeros(1))
    ),
    "data": lambda fake, options, x, y: x.put(0, 0.5),
    "data is": lambda fake, options, x, y: y.put(22, (y[22] + 1) % 3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_folder_of_other_settings_is_refused(tmp_path, arrays, name):
    certify_dataset(Fake(), arrays, tmp_path, **QUICK)
    before = content(tmp_path)
    fake, options = Fake(), dict(QUICK)
    CHANGES[name](fake, options, *arrays)
    with pytest.raises(ValueError, match=f"other settings: .*{name}.* there, .* here"):
        certify_dataset(fake, arrays, tmp_path, **options)
    assert fake.calls == [] and content(tmp_path) == before


def test_blocks_without_settings_are_refused(tmp_path, data):
    certify_dataset(Fake(), data, tmp_path, **QUICK)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"holds files but no settings.json"):
        certify_dataset(Fake(), data, tmp_path, **QUICK)


def test_data_that_change_from_one_reading_to_the_next_are_refused(tmp_path, data):
    shuffled = data.unbatch().shuffle(IMAGES, seed=1).batch(5)
    with pytest.raises(ValueError, match="gives other images when it is read again"):
        certify_dataset(Fake(), shuffled, tmp_path, **QUICK)


def test_limit_takes_the_first_images(tmp_path, data):
    few = certify_dataset(Fake(), data, tmp_path / "few", limit=7, **QUICK)
    all_ = certify_dataset(Fake(), data, tmp_path / "all", limit=1000, **QUICK)
    assert few.images == 7 and all_.images == IMAGES
    np.testing.assert_array_equal(few.radius, all_.radius[:7])


def test_images_are_read_block_by_block(tmp_path):
    # How many have been read and are not certified yet, whenever `certify` is called.
    read, waiting = [], []

    def images():
        for i in range(100):
            read.append(i)
            yield np.full((6, 6, 1), i / 100), 0

    class Watching(Fake):
        def certify(self, images, *arguments, **options):
            waiting.append(read[-1] + 1 - sum(map(len, self.calls)))
            return super().certify(images, *arguments, **options)

    signature = (tf.TensorSpec((6, 6, 1)), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(images, output_signature=signature).batch(1)
    certify_dataset(Watching(), data, tmp_path, **QUICK)
    # TensorFlow reads ahead a little.
    assert len(waiting) == 25 and max(waiting) < 50


def test_the_curve_falls_from_the_accuracy(tmp_path, data):
    found = certify_dataset(Fake(), data, tmp_path, **QUICK)
    curve = found.certified_accuracy(np.linspace(0, 3, 50))
    assert curve[0] == found.accuracy and curve[-1] == 0
    assert (np.diff(curve) <= 0).all() and len(set(curve)) > 5
    assert found.certified_accuracy()[-1] == pytest.approx(1 / IMAGES)


def test_segmentation_counts_pixels(tmp_path):
    x = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (5, 4, 4))
    found = certify_dataset(Fake(answers=(4, 4)), (x, labels), tmp_path, **QUICK)
    correct = found.prediction == labels
    assert found.samples.shape == (5,) and found.radius.shape == (5, 4, 4)
    assert found.accuracy == pytest.approx(correct.sum() / 80)
    assert found.acr == pytest.approx(found.radius[correct].sum() / 80)
    assert found.certified_accuracy([1.0])[0] == pytest.approx(
        (correct & (found.radius >= 1)).sum() / 80
    )
    assert "certified mean IoU" in str(found) and "pixels" in str(found)
    iou = json.loads(found.to_json())["certified_mean_iou"]
    np.testing.assert_array_equal(iou, found.certified_mean_iou())
    with pytest.raises(ValueError, match=r"predicts classes of shape.*labels must be"):
        certify_dataset(Fake(answers=(4, 4)), (x, labels[:, 0, 0]), tmp_path, **QUICK)


def test_the_data_are_known_however_they_are_divided(tmp_path, arrays, data):
    one = certify_dataset(Fake(), data, tmp_path / "a", **QUICK)
    two = certify_dataset(
        Fake(sigma=2), arrays, tmp_path / "b", **{**QUICK, "images_per_file": 23}
    )
    assert one.settings["data"] == two.settings["data"]
    compare({"sigma 0.5": one, "sigma 2": two})


@pytest.mark.parametrize(
    "text, shard", [("1/1", (1, 1)), ("3/64", (3, 64)), (" 64 / 64", (64, 64))]
)
def test_a_shard_is_parsed(text, shard):
    assert certification.parse_shard(text) == shard


@pytest.mark.parametrize("text", ["", "3", "3/", "/4", "a/4", "3/4/5", "-1/4", "1.5/4"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(ValueError, match=r"written as 3/64.*Received: "):
        certification.parse_shard(text)


def test_errors(tmp_path, arrays, data):
    for text in ("0/4", "5/4", "0/0"):
        with pytest.raises(ValueError, match=r"`.*shard.*` must be"):
            certification.parse_shard(text)
    with pytest.raises(ValueError, match="`shard` must be one of 1 to 4"):
        certify_dataset(Fake(), data, tmp_path, shard=(5, 4), **QUICK)
    for name in ("n0", "n", "limit", "images_per_file"):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            certify_dataset(Fake(), data, tmp_path, **{**QUICK, name: 0})
    with pytest.raises(ValueError, match="`alpha` must lie strictly between"):
        certify_dataset(Fake(), data, tmp_path, alpha=1, **QUICK)
    x, y = arrays
    with pytest.raises(ValueError, match=r"equally many. Received: 23, 22"):
        certify_dataset(Fake(), (x, y[:-1]), tmp_path, **QUICK)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        certify_dataset(Fake(), (x * 255, y), tmp_path, **QUICK)
    with pytest.raises(ValueError, match="Labels must be integers"):
        certify_dataset(Fake(), (x, y / 2), tmp_path, **QUICK)
    with pytest.raises(ValueError, match="the data set is empty"):
        certify_dataset(Fake(), data.take(0), tmp_path, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        certify_dataset(Fake(stop=0), data, tmp_path, **QUICK)
    assert list(tmp_path.iterdir()) == []  # an error leaves no settings behind
    with pytest.raises(ValueError, match="holds no results"):
        CertificationReport.load(tmp_path)
    certify_dataset(Fake(), data, tmp_path, **QUICK)
    for block in tmp_path.glob("*.npz"):
        block.unlink()
    with pytest.raises(ValueError, match="No image is certified"):
        CertificationReport.load(tmp_path)


@pytest.fixture(scope="module")
def smooth(tiny_set, tiny_classifier):
    return lps.SmoothedClassifier(tiny_classifier, tiny_set, 0.5, batch_size=40)


@pytest.mark.parametrize("way", [{}, {"target_radius": 0.3}, {"share": 0.3}])
def test_real_certificates_in_shards_are_those_of_one_call(
    tmp_path, smooth, images, labels, way
):
    numbers = {"n0": 20, "n": 200, "alpha": 0.01, "verbose": False, **way}
    expected = smooth.certify(images, **numbers)
    for i in (2, 1):
        certify_dataset(
            smooth,
            (images, labels),
            tmp_path / f"{i}",
            shard=(i, 2),
            images_per_file=2,
            **numbers,
        )
    found = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    np.testing.assert_array_equal(found.prediction, expected.prediction)
    np.testing.assert_array_equal(found.radius, expected.radius)
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert found.accuracy == (expected.prediction == labels).mean()
    assert (found.radius > 0).any()


def test_real_maps_are_certified(tmp_path, tiny_set, images):
    layer = keras.layers.Conv2D(2, 3, padding="same")
    segmenter = keras.Sequential([keras.Input((12, 12, 1)), layer])
    smooth = lps.SmoothedClassifier(segmenter, tiny_set, 0.2, batch_size=40)
    labels = (images[..., 0] > 0.5).astype(int)
    numbers = {"n0": 20, "n": 200, "alpha": 0.05, "verbose": False}
    found = certify_dataset(smooth, (images[:3], labels[:3]), tmp_path, **numbers)
    expected = smooth.certify(images[:3], **numbers)
    np.testing.assert_array_equal(found.prediction, expected.prediction)
    np.testing.assert_array_equal(found.radius, expected.radius)
    assert (found.radius > 0).any() and found.samples.tolist() == [220] * 3
    assert 0 <= found.certified_mean_iou()[0] <= found.certified_accuracy()[0]
