import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks.classifiers import small_cnn


def shift(classifier, x, y):
    return tf.roll(x, 2, axis=2)


class Adversary:
    adversarial = True

    def __call__(self, classifier, x, y):
        return shift(classifier, x, y)


def classifier_and_data(images, labels):
    classifier = small_cnn((12, 12, 1), 3, filters=(4,), units=8)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(6)
    return classifier, data


def cross_entropy(classifier, x, y):
    logits = classifier(x).numpy().astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_probs[np.arange(len(y)), y]


@pytest.mark.parametrize("kind", ["plain", "augmented", "adversarial"])
def test_the_loss_is_the_documented_one(images, labels, kind):
    classifier, data = classifier_and_data(images, labels)
    clean = cross_entropy(classifier, images, labels)
    perturbed = cross_entropy(classifier, np.roll(images, 2, 2), labels)
    expected = {
        "plain": clean.mean(),
        "augmented": perturbed.mean(),
        "adversarial": np.maximum(clean, perturbed).mean(),
    }[kind]
    perturbation = {"plain": None, "augmented": shift, "adversarial": Adversary()}
    robust = lps.RobustClassifier(classifier, perturbation[kind])
    robust.compile(keras.optimizers.SGD(0.0))
    logs = robust.fit(data, verbose=0).history
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-4)
    logs = robust.evaluate(data, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["clean_loss"] == pytest.approx(clean.mean(), rel=1e-4)
    right = classifier(images).numpy().argmax(1) == labels
    assert logs["clean_accuracy"] == pytest.approx(right.mean())
    if kind != "plain":
        assert logs["robust_loss"] == pytest.approx(perturbed.mean(), rel=1e-4)


def test_one_step_follows_the_gradient_of_the_loss(images, labels):
    classifier, data = classifier_and_data(images, labels)
    with tf.GradientTape() as tape:
        x_perturbed = np.roll(images, 2, 2)
        of = tf.nn.sparse_softmax_cross_entropy_with_logits
        both = of(labels, classifier(images)), of(labels, classifier(x_perturbed))
        loss = tf.reduce_mean(tf.maximum(*both))
    gradients = tape.gradient(loss, classifier.trainable_variables)
    expected = [
        v.numpy() - 0.1 * g
        for v, g in zip(classifier.trainable_variables, gradients, strict=True)
    ]
    robust = lps.RobustClassifier(classifier, Adversary())
    robust.compile(keras.optimizers.SGD(0.1))
    robust.fit(data, verbose=0)
    for variable, value in zip(classifier.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable, value, atol=1e-5)


@pytest.mark.slow
def test_adversarial_training_with_a_learned_set(tiny_set, images, labels):
    classifier, data = classifier_and_data(images, labels)
    before = tiny_set.get_weights()
    robust = lps.RobustClassifier(classifier, lps.LatentPGD(tiny_set, steps=2))
    robust.compile(keras.optimizers.Adam(1e-2))
    logs = robust.fit(data, validation_data=data, epochs=15, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]
    assert {"clean_accuracy", "robust_accuracy", "val_robust_loss"} <= set(logs)
    # Frozen, and neither trained nor saved with the classifier.
    for a, b in zip(before, tiny_set.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(robust.weights) == len(classifier.weights)


def test_segmentation_losses_are_means_over_pixels(images):
    labels = (images[..., 0] > 0.5).astype(np.int64)
    segmenter = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Conv2D(2, 1)])
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(6)
    robust = lps.RobustClassifier(segmenter, Adversary())
    robust.compile(keras.optimizers.SGD(0.0))
    logs = robust.evaluate(data, verbose=0, return_dict=True)
    logits = segmenter(images).numpy()
    of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert logs["clean_loss"] == pytest.approx(float(of(labels, logits)), rel=1e-4)
    right = logits.argmax(-1) == labels
    assert logs["clean_accuracy"] == pytest.approx(right.mean(), rel=1e-5)


def test_saved_and_reloaded_without_the_perturbation(images, labels, tmp_path):
    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, Adversary())
    robust.compile()
    robust.fit(data, verbose=0)
    robust.save(tmp_path / "robust.keras")
    again = keras.models.load_model(tmp_path / "robust.keras")
    assert again.perturbation is None
    assert int(again.optimizer.iterations) == 1  # and it can be trained further
    logs = again.evaluate(data, verbose=0, return_dict=True)
    assert {"clean_loss", "clean_accuracy"} <= set(logs)
    np.testing.assert_array_equal(
        robust.predict(images, verbose=0), again.predict(images, verbose=0)
    )


def test_compiling_again_changes_the_perturbation(images, labels):
    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier)
    robust.compile()
    clean = robust.evaluate(data, verbose=0, return_dict=True)
    assert "robust_loss" not in clean
    robust.perturbation = shift
    robust.compile()
    assert "robust_loss" in robust.evaluate(data, verbose=0, return_dict=True)


def test_metrics_are_tracked_twice(images, labels):
    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, Adversary())
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")
    robust.compile(metrics=[top2])
    logs = robust.evaluate(data, verbose=0, return_dict=True)
    assert {"clean_top2", "robust_top2"} <= set(logs)


def test_errors(images, labels):
    classifier, _ = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier)
    for loss in ("sparse_categorical_crossentropy", lambda y, p: 0):
        with pytest.raises(ValueError, match="must be a keras.losses.Loss of logits"):
            robust.compile(loss=loss)
    with pytest.raises(ValueError, match="of logits"):
        robust.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    robust.compile()

    def fit(x, y):
        robust.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(2), verbose=0)

    with pytest.raises(ValueError, match="below 3. Received labels from . to 7"):
        fit(images, np.where(labels == labels[0], 7, labels))
    with pytest.raises(ValueError, match="at least 0"):
        fit(images, labels - 5)
    with pytest.raises(ValueError, match="must be integers. Received dtype float"):
        fit(images, labels.astype(np.float32))
    with pytest.raises(ValueError, match="must lie in .0, 1."):
        fit(images * 2 + 0.5, labels)
    with pytest.raises(ValueError, match="below 3"):
        robust.fit(images, labels + 3, verbose=0)
    with pytest.raises(ValueError, match="below 3"):
        robust.fit(images, labels, validation_data=(images, labels + 3), verbose=0)
    with pytest.raises(ValueError, match="empty"):
        fit(images[:0], labels[:0])
