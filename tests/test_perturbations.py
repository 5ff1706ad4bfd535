import numpy as np
import pytest
import tensorflow as tf

import lps_tf as lps
from lps_tf import latent


@pytest.fixture
def attack_case(tiny_set, tiny_classifier, images, labels):
    return tiny_set, tiny_classifier, images, labels


def losses(classifier, images, labels):
    logits = classifier(images, training=False)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()


def find(attack, pset, classifier, images, labels):
    conditioned = pset.condition(images)
    return attack.find(classifier, conditioned, tf.constant(labels)).numpy()


@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_latents_never_leave_the_ball(attack_case, radius):
    pset, classifier, images, labels = attack_case
    attack = lps.LatentPGD(pset, radius=radius, steps=5, relative_step=3.0)
    u = find(attack, pset, classifier, images, labels)
    norms = np.linalg.norm(u, axis=1)
    assert norms.max() <= radius * (1 + 1e-5)
    assert norms.max() > 0.99 * radius  # steps this long do reach the border


def test_attack_raises_the_loss_of_right_answers(attack_case):
    pset, classifier, images, _ = attack_case
    labels = classifier(pset(images)).numpy().argmax(1)  # right at the centre
    attack = lps.LatentPGD(pset, radius=2.0, steps=20, relative_step=0.1)
    before = losses(classifier, pset(images), labels)
    after = losses(classifier, attack(classifier, images, labels), labels)
    assert (after > before).mean() >= 0.8


def test_attack_beats_random_search_of_the_same_size(attack_case):
    pset, classifier, images, _ = attack_case
    labels = classifier(pset(images)).numpy().argmax(1)
    attack = lps.LatentPGD(pset, radius=1.0, steps=30, relative_step=0.1)
    found = losses(classifier, attack(classifier, images, labels), labels)
    random = [
        losses(classifier, pset.sample(images, radius=1.0, seed=i), labels)
        for i in range(30)
    ]
    wrong = np.log(2)  # a smaller loss is a right answer still being attacked
    assert np.all((found >= np.max(random, 0) - 1e-3) | (found >= wrong))


def test_misclassified_examples_do_not_move(attack_case):
    pset, classifier, images, _ = attack_case
    logits = np.stack(
        [classifier(i) for i in pset.sample(images, 40, seed=0)], 1
    )  # (batch, draws, classes)
    never = (logits.argmax(-1)[:, :, None] == np.arange(3)).sum(1).argmin(1)
    u0 = latent.sample_uniform_radius((6, 4), 0.5, tf.constant([0, 1]))
    start = classifier(pset.perturb(images, u0)).numpy().argmax(1)
    labels = np.where(start == never, (never + 1) % 3, never)
    conditioned = pset.condition(images)
    from lps_tf.perturbations import _ascend

    u = _ascend(
        pset,
        classifier,
        conditioned,
        tf.constant(labels),
        u0,
        tf.constant(0.1),
        tf.constant(2.0),
        tf.constant(5),
    )
    assert (start != labels).all()
    np.testing.assert_array_equal(u, u0)


def test_gradient_agrees_with_finite_differences(attack_case):
    pset, classifier, images, labels = attack_case
    conditioned = pset.condition(images)
    u = latent.sample_uniform_radius((6, 4), 1.0, tf.constant([0, 3]))

    def loss(u):
        with pset.uncompiled():
            logits = classifier(pset.decode(conditioned, u), training=False)
        values = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return values, True

    _, _, direction = latent.ascent_step(loss, u, 0.1, 10.0)
    h = 1e-2
    numeric = np.stack(
        [
            (loss(u + h * e)[0] - loss(u - h * e)[0]).numpy() / (2 * h)
            for e in np.eye(4, dtype=np.float32)
        ],
        1,
    )
    numeric /= np.linalg.norm(numeric, axis=1, keepdims=True)
    cosine = (numeric * direction.numpy()).sum(1)
    assert np.median(cosine) > 0.99  # bilinear sampling has kinks


def test_attack_leaves_every_weight_alone(attack_case):
    # Defect 9: the original's attack computes gradients of all weights.
    pset, classifier, images, labels = attack_case
    before = [w.copy() for w in (*pset.get_weights(), *classifier.get_weights())]
    with tf.GradientTape() as tape:
        perturbed = tf.stop_gradient(
            lps.LatentPGD(pset, steps=2)(classifier, images, labels)
        )
        loss = tf.reduce_sum(classifier(perturbed))
    gradients = tape.gradient(
        loss, [*pset.trainable_variables, *classifier.trainable_variables]
    )
    count = len(pset.trainable_variables)
    assert all(g is None for g in gradients[:count])
    assert all(g is not None for g in gradients[count:])
    after = [*pset.get_weights(), *classifier.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_segmenters_are_attacked_until_every_pixel_is_wrong(tiny_set, images):
    keep = tf.constant([[[[4.0, -4.0]]]])

    def segment(x, training=False):
        return x * keep + tf.constant([-2.0, 2.0])

    labels = np.ones(images.shape[:3], np.int64)  # right in dark pixels
    attack = lps.LatentPGD(tiny_set, radius=2.0, steps=20, relative_step=0.1)
    conditioned = tiny_set.condition(images)
    u = attack.find(segment, conditioned, tf.constant(labels))
    assert np.linalg.norm(u, axis=1).max() <= 2 * (1 + 1e-5)
    perturbed = attack(segment, images, labels)
    total = tf.nn.sparse_softmax_cross_entropy_with_logits
    after = total(labels, segment(perturbed)).numpy().sum((1, 2))
    random = tiny_set.sample(images, 20, radius=2.0, seed=0)
    random = np.mean([total(labels, segment(r)).numpy().sum((1, 2)) for r in random], 0)
    assert (after > random).mean() > 0.8
    # An image with every pixel wrong is left where it started.
    wrong = 1 - segment(tiny_set(images)).numpy().argmax(-1)
    bright = tiny_set(images).numpy().max((1, 2, 3)) < 0.5
    assert bright.any()
    u = [
        attack.find(segment, conditioned, tf.constant(wrong)).numpy()[bright]
        for attack in (
            lps.LatentPGD(tiny_set, radius=1e-3, steps=n, relative_step=1.0)
            for n in (1, 5)
        )
    ]
    np.testing.assert_array_equal(*u)


def test_augmentation_and_noise_draw_from_their_laws(tiny_set, tiny_classifier):
    class Identity:
        """A set whose image is the latent itself, to see what was drawn."""

        latent_dim = 4

        def condition(self, x):
            return tiny_set.condition(x)

        def decode(self, conditioned, u):
            return u

        def require_radius(self, radius):
            return radius

    x = np.zeros((2000, 12, 12, 1), np.float32)
    labels = np.zeros(2000, np.int64)
    u = lps.LatentAugmentation(Identity(), radius=1.5)(None, x, labels).numpy()
    assert np.linalg.norm(u, axis=1).max() <= 1.5 * (1 + 1e-5)
    assert np.abs(u.mean(0)).max() < 0.08
    noise = lps.LatentNoise(Identity(), 0.7)(None, x, labels).numpy()
    assert noise.std() == pytest.approx(0.7, rel=0.03)
    assert np.abs(noise.mean()) < 0.03


def test_errors(tiny_set, images):
    fresh = lps.PerturbationSet.from_network("mnist_stn", latent_dim=4)
    for perturbation in (lps.LatentPGD, lps.LatentAugmentation):
        with pytest.raises(ValueError, match="has no radius yet"):
            perturbation(fresh)
        with pytest.raises(ValueError, match="`radius` must be positive"):
            perturbation(tiny_set, radius=0)
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        lps.LatentNoise(tiny_set, -0.5)
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        lps.LatentPGD(tiny_set, steps=0)
    with pytest.raises(ValueError, match="`relative_step` must be positive"):
        lps.LatentPGD(tiny_set, relative_step=0)
