import keras
import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf.networks.classifiers import small_cnn
from tests.contracts.models import slow


def shift(classifier, x, y):
    return tf.roll(x, 2, axis=2)


class Adversary:
    adversarial, num_samples = True, 1

    def __call__(self, classifier, x, y, key=None):
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
    own = {"draws", "epoch"}
    assert len(robust.weights) == len(classifier.weights) + len(own)


class Counting:
    """Rolls by its call's key, so that what it was given shows in the images."""

    adversarial, num_samples = False, 1

    def __init__(self):
        self.targets = []

    def __call__(self, classifier, x, y, key=None):
        self.targets.append(y)
        return tf.roll(x, key[0] % 12, axis=2)


def fraction_of_shift(images, views, shift):
    """Which images of a batch are rolled by that much."""
    rolled = np.roll(images, shift, 2)
    return [np.allclose(v, r) for v, r in zip(views, rolled, strict=True)]


def test_a_part_of_the_batch_stays_clean(images, labels):
    classifier, _ = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, shift, clean_fraction=0.4)
    robust.compile()
    views = robust._perturbed(tf.constant(images), tf.constant(labels), training=True)
    rolled = fraction_of_shift(images, views[0].numpy(), 2)
    assert rolled == [False] * 2 + [True] * 4  # 0.4 of 6, rounded down
    np.testing.assert_array_equal(views[0][:2], images[:2])
    views = robust._perturbed(tf.constant(images), tf.constant(labels), training=False)
    assert all(fraction_of_shift(images, views[0].numpy(), 2))


def test_warm_up_epochs_are_trained_without_the_perturbation(images, labels):
    def weights_after(epochs, **arguments):
        keras.utils.set_random_seed(3)
        classifier, data = classifier_and_data(images, labels)
        robust = lps.RobustClassifier(classifier, **arguments)
        robust.compile(keras.optimizers.SGD(0.1))
        logs = robust.fit(data, epochs=epochs, verbose=0).history
        return classifier.get_weights(), logs["loss"]

    warm, losses = weights_after(2, perturbation=shift, warmup_epochs=2)
    plain, plain_losses = weights_after(2)
    for a, b in zip(warm, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-6)
    third = weights_after(3, perturbation=shift, warmup_epochs=2)[1][2]
    assert abs(third - weights_after(3)[1][2]) > 1e-4


def test_seeds_of_training_go_on_and_those_of_evaluation_start_again(images, labels):
    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, Counting())
    robust.compile()
    x, y = tf.constant(images), tf.constant(labels)
    shifts = []
    for _ in range(3):
        view = robust._perturbed(x, y, training=True)[0]
        shifts += [s for s in range(12) if np.allclose(np.roll(images, s, 2), view)]
    assert shifts == [1, 2, 3]
    first = robust.evaluate(data, verbose=0, return_dict=True)
    assert robust.evaluate(data, verbose=0, return_dict=True) == first
    assert robust._draws.numpy()[0] == 3  # of training: untouched


def test_the_count_of_draws_is_saved(images, labels, tmp_path):
    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, Counting())
    robust.compile()
    robust.fit(data, epochs=2, verbose=0)
    robust.save(tmp_path / "robust.keras")
    again = keras.models.load_model(tmp_path / "robust.keras")
    np.testing.assert_array_equal(again._draws, robust._draws)
    assert robust._draws.numpy()[0] == 2


@pytest.mark.parametrize(
    "objective",
    ["Trades", "WorstLoss", *map(slow, ("Mart", "Consistency", "PerturbedLoss"))],
)
def test_objectives_train_on_views(tiny_set, images, labels, objective):
    classifier, data = classifier_and_data(images, labels)
    noise = lps.LatentNoise(tiny_set, 0.5, num_samples=2)
    robust = lps.RobustClassifier(
        classifier, noise, getattr(lps.objectives, objective)()
    )
    robust.compile(keras.optimizers.Adam(1e-2))
    logs = robust.fit(data, epochs=12, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]
    assert np.isfinite(logs["loss"]).all()
    clean = {"clean_loss", "clean_accuracy"} <= set(logs)
    assert clean == (objective in ("Trades", "Mart", "WorstLoss"))


def test_trades_attacks_the_predictions_on_clean_images(images, labels):
    classifier, _ = classifier_and_data(images, labels)
    perturbation = Counting()
    robust = lps.RobustClassifier(classifier, perturbation, lps.objectives.Trades())
    robust.compile()
    robust._perturbed(tf.constant(images), tf.constant(labels), training=True)
    expected = tf.nn.softmax(classifier(images))
    np.testing.assert_allclose(perturbation.targets[-1], expected, rtol=1e-5)


def test_logs_of_views_are_their_means(images, labels):
    def two(classifier, x, y):
        return tf.stack([tf.roll(x, 2, 2), tf.roll(x, 5, 2)])

    classifier, data = classifier_and_data(images, labels)
    robust = lps.RobustClassifier(classifier, two)
    robust.compile()
    logs = robust.evaluate(data, verbose=0, return_dict=True)
    rolled = [np.roll(images, s, 2) for s in (2, 5)]
    losses = [cross_entropy(classifier, x, labels).mean() for x in rolled]
    right = [classifier(x).numpy().argmax(1) == labels for x in rolled]
    assert logs["robust_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert logs["robust_accuracy"] == pytest.approx(np.mean(right))


def test_mean_iou_is_that_of_sets_of_pixels(images):
    # Defect 6: the original takes bitwise and / or of the labels themselves, of which
    # 1 and 2 share no bit but 1 and 3 do.
    segmenter = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Conv2D(4, 1)])
    answers = segmenter(images).numpy().argmax(-1)
    labels = np.random.RandomState(0).choice([1, 3], answers.shape)
    labels[:, :6] = answers[:, :6]
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
    robust = lps.RobustClassifier(segmenter)
    robust.compile(metrics=["accuracy", "mean_iou"])
    logs = robust.evaluate(data, verbose=0, return_dict=True)
    ious = []
    for c in range(4):
        pair = {
            frozenset(zip(*np.nonzero(a == c), strict=True)) for a in (answers, labels)
        }
        union = frozenset.union(*pair)
        if union:
            ious.append(len(frozenset.intersection(*pair)) / len(union))
    assert logs["clean_mean_iou"] == pytest.approx(np.mean(ious), rel=1e-5)
    assert logs["clean_accuracy"] == pytest.approx((answers == labels).mean(), rel=1e-5)
    bitwise = (answers & labels).sum() / (answers | labels).sum()
    assert abs(bitwise - np.mean(ious)) > 0.05


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
    for fraction in (-0.1, 1.0):
        with pytest.raises(ValueError, match="`clean_fraction` must be at least 0"):
            lps.RobustClassifier(classifier, shift, clean_fraction=fraction)
    with pytest.raises(ValueError, match="`warmup_epochs` must be a whole number"):
        lps.RobustClassifier(classifier, shift, warmup_epochs=-1)
    unbuilt = lps.RobustClassifier(keras.Sequential([keras.layers.Conv2D(2, 1)]))
    with pytest.raises(ValueError, match="build the classifier first"):
        unbuilt.compile(metrics=["mean_iou"])
    robust = lps.RobustClassifier(classifier)
    for loss in ("sparse_categorical_crossentropy", lambda y, p: 0):
        with pytest.raises(ValueError, match=r"must be a keras.losses.Loss of logits"):
            robust.compile(loss=loss)
    with pytest.raises(ValueError, match="of logits"):
        robust.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    robust.compile()

    def fit(x, y):
        robust.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(2), verbose=0)

    with pytest.raises(ValueError, match=r"below 3. Received labels from . to 7"):
        fit(images, np.where(labels == labels[0], 7, labels))
    with pytest.raises(ValueError, match="at least 0"):
        fit(images, labels - 5)
    with pytest.raises(ValueError, match=r"must be integers. Received: float32 with"):
        fit(images, labels.astype(np.float32) + 0.5)
    with pytest.raises(ValueError, match=r"must lie in .0, 1."):
        fit(images * 2 + 0.5, labels)
    with pytest.raises(ValueError, match="below 3"):
        robust.fit(images, labels + 3, verbose=0)
    with pytest.raises(ValueError, match="below 3"):
        robust.fit(images, labels, validation_data=(images, labels + 3), verbose=0)
    with pytest.raises(ValueError, match="empty"):
        fit(images[:0], labels[:0])
