import warnings

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from scipy.stats import beta, norm

import lps_tf as lps
from lps_tf.certification.sampler import NoiseSampler, block_noise, own_uniform
from lps_tf.certification.statistics import randomised_clopper_pearson_lower
from lps_tf.certification.stopping import STEP, FixedSamples
from lps_tf.certification.task import CertificationTask, advance_compiled


def smoothed(pset, classifier, sigma=1.0, **arguments):
    return lps.SmoothedClassifier(classifier, pset, sigma, **arguments)


class HalfSpace(tf.Module):
    """Answers 1 when the first latent is above a limit: its certificate is known.

    Used with a set whose "image" is the latent: (batch, 4).
    """

    output_shape = (None, 2)

    def __init__(self, limit):
        self.limit = limit

    def __call__(self, u, training=False):
        above = u[:, 0] - self.limit
        return tf.stack([-above, above], 1)


class Pixels(tf.Module):
    """A segmenter that is a half space of another limit in each of 2x3 pixels."""

    def __init__(self, limits):
        self.limits = np.reshape(limits, (2, 3)).astype(np.float32)

    def __call__(self, u, training=False):
        above = u[:, 0, None, None] - self.limits
        return tf.stack([-above, above], -1)


class LatentItself:
    """A set whose image is the latent itself; it counts what it is asked for."""

    supports_jit = False  # XLA has no Python functions

    def __init__(self, pset):
        self.pset, self.conditioned = pset, []

    def condition(self, x):
        n = tf.shape(x)[0]
        tf.py_function(lambda n: self.conditioned.append(int(n)), [n], [])
        return self.pset.condition(x)

    def decode(self, conditioned, u):
        return u


def test_certificate_of_a_half_space_is_the_known_one(tiny_set, images):
    # Noise of sigma answers 0 with probability Phi(limit / sigma), and exactly the
    # ball of radius `limit` keeps that above one half.
    limit, sigma, n = 1.2, 0.8, 4000
    found = smoothed(LatentItself(tiny_set), HalfSpace(limit), sigma).certify(
        images, n0=50, n=n, alpha=0.01, verbose=False
    )
    p = norm.cdf(limit / sigma)
    hits = n * p - 4 * np.sqrt(n * p * (1 - p))
    assert (found.prediction == 0).all()
    assert (found.radius <= limit * 1.05).all()
    lowest = beta.ppf(0.01, hits, n - hits + 1)
    assert (found.p_lower >= lowest).all()
    np.testing.assert_allclose(found.radius, sigma * norm.ppf(found.p_lower), rtol=1e-9)
    assert (found.samples == n + 50).all() and found.alpha == 0.01
    # The bounds differ between images: each has draws of its own.
    assert len(set(found.p_lower)) > 1


def test_close_calls_abstain_with_radius_zero(tiny_set, images):
    # Just below one half: whatever is selected cannot be certified.
    fair = smoothed(LatentItself(tiny_set), HalfSpace(0.0))
    found = fair.certify(images, n0=10, n=200, alpha=0.001, verbose=False)
    assert (found.prediction == -1).all()
    assert (found.radius == 0).all()
    assert (fair.predict(images, n=200, alpha=0.001, verbose=False) == -1).all()


def test_prediction_agrees_with_the_probabilities(tiny_set, images):
    sure = smoothed(LatentItself(tiny_set), HalfSpace(-1.0))
    assert (sure.predict(images, n=200, alpha=0.001, verbose=False) == 1).all()


def test_the_noise_is_that_of_the_seed_and_the_index_alone(
    tiny_set, tiny_classifier, images
):
    smooth = smoothed(tiny_set, tiny_classifier, 0.5, batch_size=50)
    numbers = {"n0": 20, "n": 110, "verbose": False}
    every = smooth.certify(images, **numbers)
    assert len(set(every.p_lower)) > 1
    order = [4, 0, 3]
    few = smooth.certify(images[order], index=order, **numbers)
    np.testing.assert_array_equal(few.p_lower, every.p_lower[order])
    np.testing.assert_array_equal(few.prediction, every.prediction[order])
    for others in (
        smooth.certify(images, index=np.arange(6) + 6, **numbers),
        smoothed(tiny_set, tiny_classifier, 0.5, batch_size=50, seed=1).certify(
            images, **numbers
        ),
    ):
        assert (others.p_lower != every.p_lower).any()


@pytest.mark.parametrize("way", [{}, {"target_radius": 0.3}, {"share": 0.2}])
def test_results_do_not_depend_on_the_other_images_or_size_of_batches(tiny_set, way):
    # Stopping times differ, so that images come and go; no network, no rounding.
    x = np.random.RandomState(0).rand(8, 12, 12, 1).astype(np.float32)
    numbers = {"n0": 30, "n": 450, "alpha": 0.01, "verbose": False, **way}
    results = []
    for batch_size in (256, 16):
        smooth = smoothed(LatentItself(tiny_set), HalfSpace(0.9), batch_size=batch_size)
        found = smooth.certify(x, **numbers)
        alone = smooth.certify(x[7:8], index=[7], **numbers)
        for one, all_of_them in zip(alone[:4], found[:4], strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[7])
        results.append(found)
    for found in results[1:]:
        for one, other in zip(found[:4], results[0][:4], strict=True):
            np.testing.assert_array_equal(one, other)
    if way:
        assert len(set(results[0].samples)) > 1
        assert (results[0].samples < 400).any()


def test_every_sample_is_counted_once(tiny_set):
    seen = []

    class Recorder(LatentItself):
        def decode(self, conditioned, u):
            tf.py_function(lambda v: seen.append(v.numpy()), [u], [])
            return u

    sampler = NoiseSampler(HalfSpace(0.0), Recorder(tiny_set), 1.0, 50)
    x = tf.zeros((3, 12, 12, 1))
    (task, *_) = sampler.run(x, np.arange(3), 0, 130, None)
    assert task.counts.sum() == 130 and task.done
    # All noise is different: between draws, images, and selection and estimation.
    noise = np.concatenate(seen)
    assert len(np.unique(noise[:, 0])) == len(np.unique(noise.round(4), axis=0))
    assert len(np.unique(noise[:, 0])) >= 3 * 130
    assert max(map(len, seen)) <= 50


def test_selection_and_estimation_share_no_sample(tiny_set):
    sampler = NoiseSampler(HalfSpace(0.0), LatentItself(tiny_set), 1.0, STEP)
    rule = FixedSamples(1, 90, 0.1, "none")
    task = CertificationTask(0, 5, None, sampler, 50, rule)
    blocks = []
    while block := task.next_block(ahead=True):
        blocks.append(block)
    assert blocks == [
        (0, 0, 20), (0, 20, 20), (0, 40, 10),
        (1, 0, 20), (1, 20, 20), (1, 40, 20), (1, 60, 20), (1, 80, 10),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 7, 16, 32, 50, 64, 100, 256])
def test_a_batch_is_nearly_full_of_whole_parts_of_blocks(tiny_set, batch_size):
    sampler = NoiseSampler(None, tiny_set, 1.0, batch_size)
    assert STEP % sampler.block_size == 0
    size = sampler.block_size * sampler.num_blocks
    assert 0.87 * batch_size < size <= batch_size


def test_few_images_are_held_and_each_is_conditioned_once(tiny_set):
    pset = LatentItself(tiny_set)
    smooth = smoothed(pset, HalfSpace(1.0), batch_size=80)  # 4 at a time
    x = np.zeros((10, 12, 12, 1), np.float32)
    smooth.certify(x, n0=20, n=100, target_radius=0.1, verbose=False)
    assert pset.conditioned == [4, 4, 4]


def test_each_image_has_a_number_of_its_own():
    numbers = np.array([own_uniform(3, i) for i in range(400)])
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 0.01
    assert len(set(numbers)) == 400 and (numbers > 0).all()
    compiled = tf.function(own_uniform)
    assert float(compiled(tf.constant(3), tf.constant(7))) == numbers[7]
    assert float(own_uniform(3, np.int64(7))) == numbers[7]
    assert float(own_uniform(4, 7)) != numbers[7]


def test_noise_is_standard_normal():
    blocks = [[i, 1, start, 20] for i in range(40) for start in range(0, 200, 20)]
    noise = [block_noise(tf.constant(b), tf.constant(3), 20, 4) for b in blocks]
    noise = np.concatenate(noise)  # (8000, 4)
    assert np.abs(noise.mean(0)).max() < 0.05
    np.testing.assert_allclose(np.cov(noise.T), np.eye(4), atol=0.06)


@pytest.mark.slow
def test_false_certificates_are_as_rare_as_alpha(tiny_set):
    # 2,000 images through the whole of `certify`, at a class probability for which
    # the bound is above the truth most often.
    limit, alpha, n = 0.4, 0.05, 60
    half_space = HalfSpace(limit)
    smooth = smoothed(LatentItself(tiny_set), half_space)
    x = np.zeros((2000, 12, 12, 1), np.float32)
    found = smooth.certify(x, n0=20, n=n, alpha=alpha, verbose=False)
    # A certificate is false if the ball it names leaves the class's half space.
    edge = np.where(found.prediction == 0, limit, -limit)
    false = (found.prediction >= 0) & (found.radius > edge)
    assert false.mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 2000)
    assert (found.prediction >= 0).mean() > 0.3  # it does certify


@pytest.mark.slow
@pytest.mark.parametrize("way", [{"target_radius": 0.4}, {"share": 0.1}])
def test_false_anytime_certificates_are_as_rare_as_alpha(tiny_set, way):
    # The target is the edge itself, so every certificate of it is false.
    limit, alpha, images = 0.4, 0.05, 500
    smooth = smoothed(LatentItself(tiny_set), HalfSpace(limit))
    x = np.zeros((images, 12, 12, 1), np.float32)
    found = smooth.certify(x, n0=20, n=400, alpha=alpha, verbose=False, **way)
    edge = np.where(found.prediction == 0, limit, -limit) * (1 - 1e-6)
    false = (found.prediction >= 0) & (found.radius > edge)
    assert false.mean() <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / images)


def test_a_target_radius_is_certified_with_few_samples(tiny_set):
    limit, sigma = 1.2, 0.8
    smooth = smoothed(LatentItself(tiny_set), HalfSpace(limit), sigma)
    x = np.zeros((20, 12, 12, 1), np.float32)
    found = smooth.certify(x, target_radius=0.6, verbose=False)
    assert (found.prediction == 0).all()
    assert (found.radius == 0.6).all()
    np.testing.assert_allclose(found.p_lower, norm.cdf(0.6 / sigma), rtol=1e-12)
    assert found.samples.mean() < 10_100 / 10
    hopeless = smooth.certify(x, target_radius=1.5, verbose=False)
    assert (hopeless.prediction == -1).all()
    assert (hopeless.radius == 0).all() and (hopeless.p_lower == 0).all()
    assert hopeless.samples.mean() < 10_100 / 4


@pytest.mark.parametrize("way", ["target_radius", "share"])
def test_another_target_makes_no_other_graph(tiny_set, way):
    smooth = smoothed(LatentItself(tiny_set), HalfSpace(1.2))
    x = np.zeros((1, 12, 12, 1), np.float32)
    radii, before = set(), advance_compiled.experimental_get_tracing_count()
    for value in (0.2, 0.4, 0.6):
        found = smooth.certify(x, **{way: value}, verbose=False)
        radii.add(float(found.radius[0]))
    assert advance_compiled.experimental_get_tracing_count() - before == 1
    assert len(radii) == 3


def test_a_share_of_the_radius_saves_samples(tiny_set):
    smooth = smoothed(LatentItself(tiny_set), HalfSpace(1.2), 0.8)
    x = np.zeros((10, 12, 12, 1), np.float32)
    full = smooth.certify(x, verbose=False)
    found = smooth.certify(x, share=0.1, verbose=False)
    assert found.samples.mean() < full.samples.mean() / 2
    # It promises to lose about a tenth, and the bound's own price.
    assert found.radius.mean() > 0.85 * full.radius.mean()
    np.testing.assert_allclose(found.radius, 0.8 * norm.ppf(found.p_lower), rtol=1e-9)


# Segmentation.


@pytest.mark.slow
def test_pixels_are_certified_at_a_share_of_alpha(tiny_set, images):
    limits = [0.5, -0.5, 1.0, 0.0, 2.0, -1.5]
    n, alpha = 500, 0.01
    found = {
        correction: smoothed(
            LatentItself(tiny_set), Pixels(limits), correction=correction
        ).certify(images, n0=50, n=n, alpha=alpha, verbose=False)
        for correction in ("none", "bonferroni", "holm")
    }
    for certificate in found.values():
        assert certificate.prediction.shape == (6, 2, 3)
        assert certificate.samples.shape == (6,)
        num_classes = np.broadcast_to([[0, 1, 0], [-1, 0, 1]], (6, 2, 3))
        np.testing.assert_array_equal(certificate.prediction, num_classes)
        assert (certificate.radius[:, 1, 0] == 0).all()  # where it abstains
        assert certificate.prediction.dtype == np.int64
    # The same draws, so the hits are the same; only the level is another.
    hits = np.arange(n + 1)
    for correction, level in (("none", alpha), ("holm", alpha / 6)):
        for i, p_lower in enumerate(found[correction].p_lower):
            w = own_uniform(0, i)  # one number for the pixels of an image
            table = randomised_clopper_pearson_lower(hits, n, level, w)
            gaps = np.abs(p_lower[..., None] - table).min(-1)
            assert gaps.max() < 1e-9
    for one, other in zip(found["holm"], found["bonferroni"], strict=True):
        np.testing.assert_array_equal(one, other)
    certified = found["none"].prediction >= 0
    assert (found["none"].radius >= found["holm"].radius).all()
    assert (found["none"].radius > found["holm"].radius)[certified].all()


@pytest.mark.slow
def test_a_target_radius_of_pixels(tiny_set, images):
    limits = [0.7, -0.9, 1.0, 0.1, 2.0, -1.5]
    smooth = smoothed(LatentItself(tiny_set), Pixels(limits))
    found = smooth.certify(images, n0=50, n=4000, target_radius=0.4, verbose=False)
    expected = np.reshape([0.4, 0.4, 0.4, 0, 0.4, 0.4], (2, 3))
    assert (found.radius[:, [0, 1, 1], [1, 1, 2]] == 0.4).all()
    assert (found.radius == expected).mean() > 0.9
    assert ((found.prediction == -1) == (found.radius == 0)).all()
    shared = smooth.certify(images, n0=50, n=4000, share=0.2, verbose=False)
    assert (shared.samples < 4050).all() and (shared.radius[:, 1, 1] > 1).all()


@pytest.mark.slow
def test_pixels_that_are_close_calls_are_abstained_in_predictions(tiny_set, images):
    limits = [0.5, -0.5, 1.0, 0.0, 2.0, -1.5]
    for correction in ("none", "bonferroni", "holm"):
        smooth = smoothed(LatentItself(tiny_set), Pixels(limits), correction=correction)
        answers = smooth.predict(images, n=400, alpha=0.001, verbose=False)
        expected = np.broadcast_to([[0, 1, 0], [-1, 0, 1]], (6, 2, 3))
        np.testing.assert_array_equal(answers, expected)


def test_a_segmenter_of_images(tiny_set, images):
    keras.utils.set_random_seed(0)
    segmenter = keras.Sequential([keras.layers.Conv2D(3, 3, padding="same")])
    smooth = smoothed(tiny_set, segmenter, 0.2, batch_size=20)
    found = smooth.certify(images[:2], n0=20, n=40, alpha=0.01, verbose=False)
    assert found.radius.shape == found.prediction.shape == (2, 12, 12)
    assert ((found.prediction == -1) == (found.radius == 0)).all()


# What may go wrong.


def test_a_classifier_that_breaks_is_not_certified(tiny_set, images):
    class Broken(HalfSpace):
        def __call__(self, u, training=False):
            return super().__call__(u) * np.nan

    smooth = smoothed(LatentItself(tiny_set), Broken(1.0))
    found = smooth.certify(images, n0=10, n=100, verbose=False)
    assert (found.prediction == -1).all() and (found.p_lower == 0).all()
    assert (smooth.predict(images, n=100, verbose=False) == -1).all()


def test_too_few_samples_are_warned_of(tiny_set, images):
    sure = smoothed(LatentItself(tiny_set), HalfSpace(-9.0))
    pixels = smoothed(LatentItself(tiny_set), Pixels([9.0] * 6))
    for smooth, work, arguments, least in (
        (sure, "certify", {}, 10),  # 2^-10 < .001
        (sure, "predict", {}, 11),  # 2 * 2^-11 < .001
        (pixels, "certify", {}, 13),  # 2^-13 < .001 / 6
        (sure, "certify", {"target_radius": 1.0}, 41),  # by integration
    ):
        arguments = {"alpha": 0.001, "verbose": False, **arguments}
        with pytest.warns(UserWarning, match=f"Use n of at least {least}") as caught:
            answers = getattr(smooth, work)(images, n=least - 1, **arguments)
        assert caught[0].filename == __file__
        answers = answers if work == "predict" else answers.prediction
        # The randomised bound may certify some of them, by luck.
        lucky = arguments.keys() == {"alpha", "verbose"} and work == "certify"
        assert (answers == -1).any() if lucky else (answers == -1).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers = getattr(smooth, work)(images, n=least, **arguments)
        answers = answers if work == "predict" else answers.prediction
        assert (answers >= 0).all()


def test_progress_goes_up_to_every_image(tiny_set, images, capsys):
    smooth = smoothed(LatentItself(tiny_set), HalfSpace(1.0))
    smooth.certify(images, n0=10, n=50)
    assert "6/6" in capsys.readouterr().out


def test_errors(tiny_set, tiny_classifier, images):
    with pytest.raises(ValueError, match="batch_size"):
        smoothed(tiny_set, tiny_classifier, batch_size=0)
    with pytest.raises(ValueError, match="`correction` must be one of none, bonf"):
        smoothed(tiny_set, tiny_classifier, correction="bonferoni")
    smooth = smoothed(tiny_set, tiny_classifier)
    with pytest.raises(ValueError, match="not both"):
        smooth.certify(images, target_radius=1.0, share=0.1)
    with pytest.raises(ValueError, match="`target_radius` must be positive"):
        smooth.certify(images, target_radius=0)
    with pytest.raises(ValueError, match="`share` must lie strictly between"):
        smooth.certify(images, share=1)
    for index in ([1, 2], np.arange(6) - 1, np.arange(6.0), np.arange(6) + 2**31):
        with pytest.raises(ValueError, match="`index` must be 6 whole numbers"):
            smooth.certify(images, index=index)
    for alpha in (0, 1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="`alpha` must lie strictly between"):
            smooth.certify(images, alpha=alpha)
        with pytest.raises(ValueError, match="`alpha` must lie strictly between"):
            smooth.predict(images, alpha=alpha)
    for name in ("n0", "n"):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
            smooth.certify(images, **{name: 0})
    with pytest.raises(ValueError, match="NaN"):
        smooth.certify(images * np.nan)
    with pytest.raises(ValueError, match="must hold images of shape"):
        smooth.certify(images[:, :5], n0=1, n=1, verbose=False)
