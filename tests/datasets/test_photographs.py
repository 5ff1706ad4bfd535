"""MNIST, CIFAR-10 and photo patches: read from small data in TFDS's own format."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import lps_tf as lps
from lps_tf import corruptions
from lps_tf.datasets.builders import patches as patch_source


def prepare(name, features, splits, data_dir, config=None):
    """Writes a data set in the format that `tfds.builder(name)` reads."""
    version = tfds.builder(name, data_dir=data_dir).version
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name.split("/")[0],
        version=version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(arrays)
            for split, arrays in splits.items()
        },
        data_dir=data_dir,
        config=config,
    )


def images_with_labels(n, shape, num_classes, seed):
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (n, *shape)).astype(np.uint8)
    return {"image": images, "label": random.randint(0, num_classes, n)}


LABEL = tfds.features.ClassLabel(num_classes=10)


def prepare_mnist(folder):
    prepare_grey("mnist", folder)


def prepare_grey(name, folder):
    prepare(
        name,
        {"image": tfds.features.Image(shape=(28, 28, 1)), "label": LABEL},
        {
            "train": images_with_labels(120, (28, 28, 1), 10, 0),
            "test": images_with_labels(20, (28, 28, 1), 10, 1),
        },
        folder,
    )


def prepare_cifar10(folder):
    splits = {}
    for name, n, seed in (("train", 100, 2), ("test", 12, 3)):
        splits[name] = images_with_labels(n, (32, 32, 3), 10, seed)
        splits[name]["id"] = np.array([f"{name}_{i:05d}" for i in range(n)])
    image = tfds.features.Image(shape=(32, 32, 3))
    features = {"id": tfds.features.Text(), "image": image, "label": LABEL}
    prepare("cifar10", features, splits, folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare_mnist(folder)
    prepare_cifar10(folder)
    return folder


def stored(name, split, data_dir):
    """Images of a prepared data set in its own order."""
    data = tfds.load(name, split=split, data_dir=data_dir, as_supervised=True)
    return [(image, int(label)) for image, label in tfds.as_numpy(data)]


def test_mnist_is_split_and_perturbed(data_dir):
    real = lps.datasets.mnist_rts(batch_size=16, data_dir=data_dir)
    assert real.name == "MNIST, RTS"
    # 1 in 60 validates; images are padded by 7 and scaled to [0, 1].
    assert sum(len(y) for _, y in real.val) == 2
    assert sum(len(y) for _, y in real.test) == 20
    x = np.concatenate([x for x, _ in real.test])
    expected = {image.tobytes() for image, _ in stored("mnist", "test", data_dir)}
    images = np.uint8(np.round(x[:, 7:-7, 7:-7] * 255))
    assert {image.tobytes() for image in images} == expected
    assert x[:, :7].max() == 0
    linf = lps.datasets.mnist_linf(batch_size=16, data_dir=data_dir)
    x, x_perturbed = next(iter(linf.train_pairs))
    assert 0.25 < np.abs(x - x_perturbed).max() <= 0.3 + 1e-6


def test_a_missing_data_set_is_named_with_a_stand_in(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    published = functools.partial(lps.datasets.cifar10_published, "fog", 5)
    for load, name, stand_in in (
        (lps.datasets.mnist_rts, "mnist", "mnist5k_rts"),
        (lps.datasets.cifar10_corrupted, "cifar10", "photos"),
        (published, "cifar10_corrupted/fog_5", "photos"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            load(data_dir=tmp_path)
        message = str(error.value)
        assert name in message and str(tmp_path) in message
        assert f"tfds build {name}" in message and stand_in in message
    assert not any(tmp_path.rglob("*.tfrecord*"))
    with pytest.raises(ValueError, match="`corruption` must be one of"):
        lps.datasets.cifar10_published("rain")


@pytest.fixture(scope="module")
def cifar(data_dir):
    return lps.datasets.cifar10_corrupted(batch_size=8, data_dir=data_dir)


@pytest.mark.slow
def test_corrupted_cifar10_holds_out_whole_images(cifar, data_dir):
    # Defect 12 of the original: it has no training corruptions, and no seed.
    assert sum(len(y) for _, y in cifar.val) == 2  # 1 in 50
    assert sum(len(x) for x, _ in cifar.val_pairs) == 2 * 12
    assert int(cifar.train.cardinality()) == 98 // 8
    assert cifar.perturbations == corruptions.PAPER and cifar.num_classes == 10
    # Test images, and each version is that corruption of that image.
    clean = {image.tobytes(): y for image, y in stored("cifar10", "test", data_dir)}
    count = 0
    for x, y in cifar.test:
        for image, label in zip(np.uint8(np.round(x * 255)), y, strict=True):
            assert clean[image.tobytes()] == int(label)
            count += 1
    assert count == len(clean) == 12


@pytest.mark.slow
def test_stored_versions_are_those_of_the_generator(data_dir, cifar):
    from lps_tf.datasets.builders.corrupted import LpsCorruptedCifar10

    builder = LpsCorruptedCifar10(config="paper", data_dir=data_dir)
    source = np.stack([image for image, _ in stored("cifar10", "test", data_dir)])
    expected = {
        image.tobytes(): [
            corruptions.corrupt(source, name, 5, seed=2)[i] for name in ("fog", "snow")
        ]
        for i, image in enumerate(source)
    }
    places = [corruptions.PAPER.index(name) for name in ("fog", "snow")]
    for example in tfds.as_numpy(builder.as_dataset(split="test")):
        found = example["corrupted"][places]
        np.testing.assert_array_equal(found, expected[example["image"].tobytes()])
    unseen, _ = next(iter(cifar.unseen_groups))
    assert unseen.shape[1:] == (3, 32, 32, 3)


def test_the_published_corruptions_are_read_by_our_names(tmp_path):
    colour = tfds.features.Image(shape=(32, 32, 3))
    label = tfds.features.ClassLabel(num_classes=10)
    test = images_with_labels(6, (32, 32, 3), 10, 5)
    name = "cifar10_corrupted/frosted_glass_blur_3"  # its name for glass blur
    features = {"image": colour, "label": label}
    config = tfds.core.BuilderConfig(name="frosted_glass_blur_3")
    prepare(name, features, {"test": test}, tmp_path, config)
    data = lps.datasets.cifar10_published("glass_blur", 3, 4, tmp_path)
    x, y = (np.concatenate(part) for part in zip(*data, strict=True))
    expected = {image.tobytes(): k for image, k in zip(*test.values(), strict=True)}
    found = {np.uint8(i.round()).tobytes(): k for i, k in zip(x * 255, y, strict=True)}
    assert x.dtype == np.float32 and found == expected


@pytest.mark.slow
def test_photos_are_prepared_once(tmp_path):
    photos = lps.datasets.photos(batch_size=8, patches=(3, 1, 2), data_dir=tmp_path)
    assert "photo patches (scikit-image)" in photos.name and photos.num_classes == 11
    assert photos.class_names[:2] == ("astronaut", "cat")
    labels = np.concatenate([y for _, y in photos.test])
    np.testing.assert_array_equal(np.bincount(labels), np.full(11, 2))
    # Prepared once, then only read: the same data.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}
    again = lps.datasets.photos(batch_size=8, patches=(3, 1, 2), data_dir=tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tfrecord*")}
    assert before == after
    for one, other in zip(photos.test_groups, again.test_groups, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    with pytest.raises(ValueError, match="`patches` must be a whole number"):
        lps.datasets.photos(patches=(0, 1, 1), data_dir=tmp_path)


@pytest.mark.slow
def test_a_set_and_a_classifier_train_on_photos(tmp_path):
    data = lps.datasets.photos(batch_size=8, patches=(3, 1, 1), data_dir=tmp_path)
    pset = lps.PerturbationSet.from_network(
        "cifar10_residual", latent_dim=4, blocks=1, wide=4, narrow=2
    )
    pset.compile(jit_compile=False)
    history = pset.fit(data.train_pairs, validation_data=data.val_pairs, verbose=0)
    assert np.isfinite(history.history["val_loss"]).all()
    classifier = lps.networks.classifiers.small_cnn(data.image_shape, data.num_classes)
    robust = lps.RobustClassifier(classifier)
    robust.compile()
    history = robust.fit(data.train_perturbed, validation_data=data.val, verbose=0)
    assert np.isfinite(history.history["clean_loss"]).all()


# Where patches come from.


def test_blocks_of_the_splits_share_no_pixel_and_cover_the_photograph():
    for shape in ((300, 451), (512, 512), (1411, 1411)):
        count = np.zeros(shape, int)
        splits = patch_source.division(shape, np.random.RandomState(0))
        for blocks in splits:
            assert len(blocks) >= 2
            for top, left, height, width in blocks:
                assert min(height, width) >= 56  # the largest square fits
                count[top : top + height, left : left + width] += 1
        assert (count == 1).all()
        assert len(splits[0]) > len(splits[1]) + len(splits[2])


def test_patches_are_seeded_varied_and_of_their_photograph():
    one = list(patch_source.patches("test", 3))
    again = list(patch_source.patches("test", 3))
    other = list(patch_source.patches("test", 3, seed=1))
    assert [y for _, y in one] == list(range(11)) * 3
    for (x, _), (x2, _), (x3, _) in zip(one, again, other, strict=True):
        assert x.shape == (32, 32, 3) and x.dtype == np.uint8
        np.testing.assert_array_equal(x, x2)
        assert (x != x3).any()
        assert x.std((0, 1)).max() > 2
    # Textures are grey, the astronaut is not.
    grey = {patch_source.CLASSES[y] for x, y in one if (np.ptp(x, axis=-1) == 0).all()}
    assert grey == {"grass", "brick", "gravel"}
