"""Classifiers, images and labels as users have them, in predict and certificates."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.certification import CertificationReport, certify_dataset
from tests.robustness.users import TwoLogits

pytestmark = pytest.mark.slow

QUICK = {"n0": 20, "n": 100, "alpha": 0.05, "verbose": False}


def smoothed(pset, classifier, sigma=0.5, **arguments):
    return lps.SmoothedClassifier(classifier, pset, sigma, batch_size=40, **arguments)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def one_logit(pset, activation=None, segments=False):
    """A classifier or segmenter of one logit, now above 0 and now below, of 12x12."""
    keras.utils.set_random_seed(1)
    x = keras.Input((12, 12, 1))
    if segments:
        return keras.Model(x, keras.layers.Conv2D(1, 3, padding="same")(x))
    dense = keras.layers.Dense(1, activation=activation)
    model = keras.Model(x, dense(keras.layers.Flatten()(x)))
    images = np.random.RandomState(1).uniform(size=(6, 12, 12, 1)).astype(np.float32)
    centres = pset.perturb(images, tf.zeros((6, 4)))
    logits = tf.reshape(centres, (6, -1)) @ dense.kernel
    dense.bias.assign([-float(np.median(logits))])
    return model


@pytest.fixture(scope="module")
def smooth(tiny_set, tiny_classifier):
    return smoothed(tiny_set, tiny_classifier)


@pytest.fixture(scope="module")
def expected(smooth, images):
    return smooth.certify(images, **QUICK)


# Values that cannot change any more.


def test_what_certificates_were_made_of_cannot_be_replaced(smooth, tiny_set):
    for name, value in (
        ("sigma", 5.0),
        ("classifier", None),
        ("perturbation_set", tiny_set),
        ("seed", 1),
        ("correction", "none"),
        ("batch_size", 8),
    ):
        with pytest.raises(AttributeError, match=f"`{name}` of a Smoothed.* is fixed"):
            setattr(smooth, name, value)
    with pytest.raises(AttributeError, match="`sigma` of a NoiseSampler is fixed"):
        smooth.sampler.sigma = 5.0


def test_certificates_cannot_change(expected):
    with pytest.raises(AttributeError):
        expected.radius = expected.radius + 1


@pytest.mark.parametrize("sigma", [0, -1.0, np.inf, np.nan])
def test_a_sigma_that_is_none_is_refused(tiny_set, tiny_classifier, sigma):
    with pytest.raises(ValueError, match="`sigma` must be positive and finite"):
        smoothed(tiny_set, tiny_classifier, sigma)


# Classifiers.


@pytest.mark.parametrize(
    "arguments", [{}, {"activation": "sigmoid"}, {"segments": True}]
)
def test_one_logit_is_a_choice_between_two_classes(tiny_set, images, arguments):
    model = one_logit(tiny_set, **arguments)
    plain = TwoLogits(one_logit(tiny_set, segments="segments" in arguments))
    one, two = smoothed(tiny_set, model, 0.1), smoothed(tiny_set, plain, 0.1)
    found = one.certify(images, **QUICK)
    assert set(np.unique(found.prediction)) >= {0, 1}
    assert_equal(found, two.certify(images, **QUICK))
    options = {"n": 100, "alpha": 0.05, "verbose": False}
    predicted = one.predict(images, **options)
    np.testing.assert_array_equal(predicted, two.predict(images, **options))
    assert set(np.unique(predicted)) >= {0, 1}


def test_a_report_of_one_logit(tiny_set, images, tmp_path):
    model = one_logit(tiny_set)
    labels = (model(images).numpy() > 0).astype(np.uint8)  # (6, 1), as Keras has them
    smooth = smoothed(tiny_set, model, 0.1)
    found = certify_dataset(smooth, (images, labels), tmp_path, **QUICK)
    assert found.labels.shape == (6,) and found.accuracy >= 0.5


class Subclassed(keras.Model):
    """A model whose shapes nobody knows before it is called."""

    def __init__(self):
        super().__init__()
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(3)

    def call(self, x, training=False):
        return self.dense(self.flatten(x))


def test_a_subclassed_model_is_certified(tiny_set, images):
    keras.utils.set_random_seed(0)
    found = smoothed(tiny_set, Subclassed(), 0.1).certify(images, **QUICK)
    assert (found.radius > 0).any()


class NoXla(keras.layers.Layer):
    """A classifier with an operation that XLA has no form of."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x, training=False):
        same = tf.numpy_function(lambda x: x, [x], tf.float32)
        return self.model(tf.ensure_shape(same, x.shape))


def test_what_xla_cannot_compile_is_certified_without_it(
    tiny_set, tiny_classifier, images, expected
):
    smooth = smoothed(tiny_set, NoXla(tiny_classifier))
    with pytest.warns(UserWarning, match="XLA cannot compile") as caught:
        found = smooth.certify(images, **QUICK)
    assert len(caught) == 1
    np.testing.assert_array_equal(found.prediction, expected.prediction)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smooth.certify(images, **QUICK)


@pytest.mark.parametrize(
    "output, message",
    [
        (lambda y: {"a": y, "b": y}, "one output, its logits.*dict of"),
        (lambda y: [y, y], "one output, its logits.*2 outputs"),
        (lambda y: y[:, None, None, None], "must give logits"),
    ],
)
def test_other_outputs_are_refused_with_a_way_out(tiny_set, images, output, message):
    model = one_logit(tiny_set)
    several = keras.Model(model.inputs, output(model.outputs[0]))
    with pytest.raises(ValueError, match=message):
        smoothed(tiny_set, several).certify(images, **QUICK)


# Images and labels.


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_images_of_other_float_types(smooth, images, dtype):
    images = images.astype(np.float16)
    expected = smooth.certify(images.astype(np.float32), **QUICK)
    assert_equal(smooth.certify(images.astype(dtype), **QUICK), expected)


def test_a_data_set_is_certified_as_its_images(smooth, images, labels, expected):
    alone = tf.data.Dataset.from_tensor_slices(images).batch(4)
    labelled = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    for data in (alone, labelled, labelled.repeat().take(2), (images, labels)):
        if data is not (images, labels):
            found = smooth.certify(data, **QUICK)
            assert_equal(found, expected)
    options = {"n": 100, "alpha": 0.05, "verbose": False}
    predicted = smooth.predict(labelled, **options)
    np.testing.assert_array_equal(predicted, smooth.predict(images, **options))
    order = [4, 0, 3, 1, 2, 5]
    found = smooth.certify(
        tf.data.Dataset.from_tensor_slices(images[order]).batch(4), index=order, **QUICK
    )
    np.testing.assert_array_equal(found.p_lower, expected.p_lower[order])
    with pytest.raises(ValueError, match="`index` must be"):
        smooth.certify(alone, index=[0, 1, 2, 3, 4], **QUICK)
    with pytest.raises(ValueError, match="the data set is empty"):
        smooth.certify(alone.take(0), **QUICK)


@pytest.fixture(scope="module")
def smooth_segmenter(tiny_set):
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 1))
    segmenter = keras.Model(x, keras.layers.Conv2D(3, 3, padding="same")(x))
    return smoothed(tiny_set, segmenter, 0.1)


@pytest.mark.parametrize("void", [255, -1])
def test_void_pixels_count_in_no_rate(smooth_segmenter, images, tmp_path, void):
    plain = smooth_segmenter.certify(images, **QUICK)
    # All certified classes are correct; of the rest, abstentions among them, nobody
    # knows the class.
    sure = plain.prediction >= 0
    assert 0.1 < sure.mean() < 1
    labels = np.where(sure, plain.prediction, void)
    labels = labels.astype(np.uint8 if void == 255 else np.int32)
    found = certify_dataset(
        smooth_segmenter, (images, labels), tmp_path, ignore_class=void, **QUICK
    )
    assert found.accuracy == 1 and found.abstained == 0
    assert found.acr == pytest.approx(plain.radius[sure].mean())
    assert found.certified_accuracy([0])[0] == 1
    assert found.certified_mean_iou([0])[0] == pytest.approx(1)
    half = np.median(plain.radius[sure])
    expected = (plain.radius[sure] >= half).mean()
    assert found.certified_accuracy([half])[0] == pytest.approx(expected)
    assert str(CertificationReport.load(tmp_path)) == str(found)
    with pytest.raises(ValueError, match="pass it as `ignore_class`"):
        certify_dataset(smooth_segmenter, (images, labels), tmp_path / "a", **QUICK)


def test_void_images_count_in_no_rate(smooth, images, expected, tmp_path):
    labels = np.where(np.arange(6) < 3, expected.prediction, 255)
    found = certify_dataset(
        smooth, (images, labels), tmp_path, ignore_class=255, **QUICK
    )
    assert found.accuracy == 1 and found.abstained == 0
    assert found.acr == pytest.approx(expected.radius[:3].mean())


def test_labels_of_every_integer_type_and_shape(smooth, images, labels, tmp_path):
    plain = certify_dataset(smooth, (images, labels), tmp_path, **QUICK)
    one_hot = np.eye(3)[labels]
    forms = [labels.astype(t) for t in (np.uint8, np.int16, np.uint16, np.int32)]
    forms += [labels[:, None], one_hot, one_hot.astype(np.int64)]
    for form in forms:
        # The same folder: whatever form they have, they are the same data.
        found = certify_dataset(smooth, (images, form), tmp_path, **QUICK)
        np.testing.assert_array_equal(found.labels, plain.labels)
    for form, message in (
        (one_hot * 0.5, "must be one-hot"),
        (labels[:, None, None], "labels must be integers of this shape"),
        (labels + 1, "at least 0 and below 3"),
        (labels / 2, "Labels must be integers"),
    ):
        with pytest.raises(ValueError, match=message):
            certify_dataset(smooth, (images, form), tmp_path, **QUICK)
