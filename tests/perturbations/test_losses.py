"""What attacks ascend, and when an example counts as misclassified."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import jensenshannon

from lps_tf.perturbations import losses
from lps_tf.perturbations.losses import all_wrong


def logits_and_labels(num_classes, shape=(50,)):
    random = np.random.RandomState(num_classes)
    logits = random.normal(size=(*shape, num_classes)).astype(np.float32)
    return logits, random.randint(num_classes, size=shape)


def ratio(logits, y):
    """The formula of the paper, of one vector: -(z_y - max other) / (z_1 - z_3)."""
    ordered = np.sort(logits)[::-1]
    margin = np.delete(logits, y).max() - logits[y]
    return margin / (ordered[0] - ordered[2])


def each(function, logits, y):
    rows = zip(logits.reshape(-1, logits.shape[-1]), y.ravel(), strict=True)
    return np.reshape([function(*row) for row in rows], y.shape)


@pytest.mark.parametrize("shape", [(50,), (5, 4, 3)], ids=["images", "pixels"])
@pytest.mark.parametrize("num_classes", [3, 4, 10])
def test_the_ratio_is_the_formula_of_the_paper(num_classes, shape):
    logits, y = logits_and_labels(num_classes, shape)
    found = losses.difference_of_logits_ratio(tf.constant(logits), tf.constant(y))
    np.testing.assert_allclose(found, each(ratio, logits, y), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found > 0, logits.argmax(-1) != y)
    # Blind to scale and shift, where cross-entropy and its gradient vanish.
    for other in (1e3 * logits, 1e-3 * logits, logits + 5):
        again = losses.difference_of_logits_ratio(tf.constant(other), tf.constant(y))
        np.testing.assert_allclose(again, found, rtol=1e-3, atol=1e-4)


def test_the_ratio_of_two_classes_is_the_margin():
    logits, y = logits_and_labels(2)
    found = losses.difference_of_logits_ratio(tf.constant(logits), tf.constant(y))
    rows = np.arange(len(y))
    np.testing.assert_allclose(found, logits[rows, 1 - y] - logits[rows, y], rtol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_gradients_of_the_ratio_are_finite_and_right(num_classes):
    logits, y = logits_and_labels(num_classes, (20,))

    def gradient(logits):
        logits = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = losses.difference_of_logits_ratio(logits, tf.constant(y))
        return tape.gradient(value, logits).numpy()

    function = ratio if num_classes > 2 else lambda z, y: z[1 - y] - z[y]
    exact = logits.astype(np.float64)
    numeric = [
        (each(function, exact + h, y) - each(function, exact - h, y)) / 2e-6
        for h in 1e-6 * np.eye(num_classes)
    ]
    np.testing.assert_allclose(
        gradient(logits), np.transpose(numeric), rtol=1e-3, atol=1e-4
    )
    # Certain, all alike, and the first three alike.
    tied = logits.copy()
    tied[:, :3] = tied.max(1, keepdims=True) + 1
    for extreme in (1e4 * logits, 0 * logits, tied):
        assert np.isfinite(gradient(extreme)).all()


def test_cross_entropy_is_minus_the_log_probability():
    for shape in ((50,), (5, 4, 3)):
        logits, y = logits_and_labels(4, shape)
        found = losses.cross_entropy(tf.constant(logits), tf.constant(y))
        log_sum = np.log(np.exp(logits.astype(np.float64)).sum(-1))
        own = np.take_along_axis(logits, y[..., None], -1)[..., 0]
        np.testing.assert_allclose(found, log_sum - own, rtol=1e-5, atol=1e-6)


def test_gradients_from_probabilities_are_those_of_the_divergence():
    logits, _ = logits_and_labels(4)
    p = tf.nn.softmax(np.random.RandomState(1).normal(size=(50, 4)).astype(np.float32))
    logits = tf.constant(logits)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        entropy = losses.cross_entropy(logits, p)
        kl = tf.reduce_sum(p * (tf.math.log(p) - tf.nn.log_softmax(logits)), -1)
    np.testing.assert_allclose(
        tape.gradient(entropy, logits), tape.gradient(kl, logits), atol=1e-6
    )
    np.testing.assert_allclose(
        losses.difference_of_logits_ratio(logits, p),
        losses.difference_of_logits_ratio(logits, tf.argmax(p, -1)),
    )


def test_labels_may_be_arrays_of_either_kind():
    logits, y = logits_and_labels(4)
    for function in (losses.cross_entropy, losses.difference_of_logits_ratio):
        for labels in (y, y.astype(np.int32), np.eye(4, dtype=np.float32)[y]):
            np.testing.assert_allclose(
                function(tf.constant(logits), labels),
                function(tf.constant(logits), tf.constant(y)),
                rtol=1e-4,
                atol=1e-5,
            )


def test_an_example_counts_whole():
    logits, y = logits_and_labels(3, (30, 2, 1))
    values = np.random.RandomState(0).normal(size=(30, 2, 1)).astype(np.float32)
    found = losses.over_image(tf.constant(values))
    np.testing.assert_allclose(found, values.sum((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(losses.over_image(found), found)
    # A segmenter is misclassified where every pixel is wrong, not where one is.
    wrong = logits.argmax(-1) != y
    misclassified = all_wrong(tf.constant(logits), tf.constant(y)).numpy()
    np.testing.assert_array_equal(misclassified, wrong.all((1, 2)))
    assert misclassified.any() and (wrong.any((1, 2)) & ~misclassified).any()
    pixel = all_wrong(tf.constant(logits[:, 0, 0]), tf.constant(y[:, 0, 0]))
    np.testing.assert_array_equal(pixel, wrong[:, 0, 0])
    assert not all_wrong(tf.constant(logits), tf.nn.softmax(-logits)).numpy().any()


def targeted_ratio(logits, y, target):
    """The formula of the paper: -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)."""
    ordered = np.sort(logits)[::-1]
    spread = ordered[0] - ordered[2:4].mean() if len(logits) > 2 else 1
    return (logits[target] - logits[y]) / spread


@pytest.mark.parametrize("num_classes", [2, 3, 4, 10])
def test_the_targeted_ratio_is_the_formula_of_the_paper(num_classes):
    logits, y = logits_and_labels(num_classes)
    order = losses.likeliest_others(tf.constant(logits), tf.constant(y), 9).numpy()
    for row, label, others in zip(logits, y, order, strict=True):
        expected = [k for k in np.argsort(-row) if k != label]
        np.testing.assert_array_equal(others, expected[:9])
    for target in order.T:
        found = losses.targeted_difference_of_logits_ratio(
            tf.constant(logits), tf.constant(y), tf.constant(target)
        )
        rows = zip(logits, y, target, strict=True)
        expected = [targeted_ratio(*row) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_losses_of_pixels_are_those_of_their_papers():
    logits, y = logits_and_labels(4, (5, 4, 3))
    entropy = losses.cross_entropy(tf.constant(logits), tf.constant(y))
    correct = logits.argmax(-1) == y
    p = tf.nn.softmax(logits).numpy().astype(np.float64)
    divergence = jensenshannon(p, np.eye(4)[y], axis=-1) ** 2
    np.testing.assert_allclose(losses.jensen_shannon(entropy), divergence, atol=1e-6)
    masked = losses.masked_cross_entropy(entropy, correct)
    np.testing.assert_allclose(masked, entropy * correct)
    balanced = losses.balanced_cross_entropy(entropy, correct, 0.2)
    np.testing.assert_allclose(
        balanced, np.where(correct, 0.8, 0.2) * entropy, rtol=1e-6
    )
