"""Bounds and tests that hold for all pixels of an image at once."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from lps_tf.certification import evidence, statistics
from lps_tf.certification.stopping import FixedSamples, Prior, rule_of
from tests.certification.levels import ALPHA, allowed

#: Nothing is known beside the samples; the bound of fixed samples is the usual one.
NOTHING = Prior(0, 0, 1.0)


def simulated_images(images=200, pixels=200, n=60, p=0.8, seed=0):
    """Hits of n draws; half of the pixels are copies of others, as neighbours are."""
    hits = np.random.RandomState(seed).binomial(n, p, (images, pixels // 2))
    return np.concatenate([hits, hits], 1)


def error_rate(decide, images):
    decide = tf.function(decide, autograph=False)
    return np.mean([decide(tf.constant(k)).numpy().any() for k in images])


@pytest.mark.parametrize("correction", statistics.CORRECTIONS)
@pytest.mark.parametrize("way", ["fixed", "target", "share", "predict"])
def test_error_rates_of_whole_images(way, correction):
    # Every pixel's probability is p, so a bound or a target above is an error.
    n, p = 60, 0.5 if way == "predict" else 0.8
    radius = scipy.stats.norm.ppf(p)

    def wrong(hits):
        if way == "predict":
            top = tf.maximum(hits, n - hits)
            p_values = statistics.binomial_test(top, n - top)
            return statistics.reject_by_p(p_values, ALPHA, correction)
        target = {"target": {"target_radius": radius}, "share": {"share": 0.1}}
        rule = rule_of(1.0, n, ALPHA, correction, **target.get(way, {}))
        _, p_lower, found = rule.decide(hits, n, NOTHING)
        return found > 0 if way == "target" else p_lower > p

    images = simulated_images(p=p)
    rate = error_rate(wrong, images)
    if correction == "none":
        assert rate > 4 * ALPHA
    else:
        assert rate <= allowed(len(images))


def test_holms_corrections_reject_more_than_bonferronis_and_hold():
    # Nine of ten pixels are far above the target, one is on it.
    images, n, p = 400, 200, 0.8
    random = np.random.RandomState(0)
    above = random.binomial(n, 0.9, (images, 180))
    at = random.binomial(n, p, (images, 20))
    hits = np.concatenate([above, at], 1)
    found = {}
    for correction in ("bonferroni", "holm"):
        rule = rule_of(1.0, n, ALPHA, correction, target_radius=scipy.stats.norm.ppf(p))
        decide = tf.function(
            lambda k, rule=rule: rule.decide(k, n, NOTHING), autograph=False
        )
        found[correction] = np.stack([decide(tf.constant(k))[2] for k in hits])
        wrong = (found[correction][:, 180:] > 0).any(1).mean()
        assert wrong <= allowed(images)
    assert (found["holm"] >= found["bonferroni"]).all()
    assert (found["holm"] > 0).sum() > 1.02 * (found["bonferroni"] > 0).sum()


def test_holms_step_down():
    p = np.array([[0.011, 0.9], [0.02, 0.001]])
    # 0.001 <= .05/4, .011 <= .05/3, .02 <= .05/2, .9 > .05
    expected = [[True, False], [True, True]]
    np.testing.assert_array_equal(statistics.reject_by_p(p, 0.05, "holm"), expected)
    p[0, 0] = 0.017  # > .05/3, and so .02 stays too
    expected = [[False, False], [False, True]]
    np.testing.assert_array_equal(statistics.reject_by_p(p, 0.05, "holm"), expected)
    np.testing.assert_array_equal(
        statistics.reject_by_p(p, 0.05, "bonferroni"), expected
    )
    assert statistics.reject_by_p(p, 0.05, "none").numpy().sum() == 3
    ties = statistics.reject_by_p(np.full(5, 0.01), 0.05, "holm")
    assert ties.numpy().all()


def test_holm_for_evidence_is_closed_testing():
    random = np.random.RandomState(0)
    for _ in range(30):
        e = np.exp(random.normal(2, 2.5, 6))
        expected = [
            all(
                np.mean(e[list(group)]) >= 20
                for size in range(1, 7)
                for group in itertools.combinations(range(6), size)
                if i in group
            )
            for i in range(6)
        ]
        found = statistics.reject_by_evidence(np.log(e), 0.05, "holm")
        np.testing.assert_array_equal(found, expected)
    # One test needs no correction, and what overflows is still evidence.
    assert statistics.reject_by_evidence(tf.constant(3.0, tf.float64), 0.05, "holm")
    huge = tf.constant([1e5, -np.inf, 0.0], tf.float64)
    found = statistics.reject_by_evidence(huge, 0.05, "holm")
    np.testing.assert_array_equal(found, [True, False, False])


def test_bounds_of_pixels_are_clopper_and_pearsons_at_a_share_of_alpha():
    hits = np.random.RandomState(0).binomial(1000, 0.97, (5, 7))
    for correction, level in (("none", ALPHA), ("bonferroni", ALPHA / 35)):
        _, p_lower, radius = rule_of(2.0, 1000, ALPHA, correction).decide(
            hits, 1000, NOTHING
        )
        expected = scipy.stats.beta.ppf(level, hits, 1000 - hits + 1)
        np.testing.assert_allclose(p_lower, expected, rtol=1e-6)
        np.testing.assert_allclose(radius, 2 * scipy.stats.norm.ppf(expected), 1e-5)
    # As published for 125x187 pixels: 2.463 sigma shrinks to 2.124.
    all_hits = np.full((125, 187), 1000)
    for correction, radius in (("none", 2.463), ("holm", 2.124)):
        found = rule_of(1.0, 1000, 0.001, correction).decide(all_hits, 1000, NOTHING)[2]
        np.testing.assert_allclose(found, radius, atol=5e-4)


@pytest.mark.parametrize("u, w", [(0.5, 0.5), (0.51, 0.5625), (1e-9, 0.0625), (1, 1)])
def test_of_many_pixels_the_number_is_rounded_up(u, w):
    # So that there is a table for each; in a graph, where n is not known, as well.
    n, hits = 20, np.random.RandomState(0).binomial(20, 0.9, (4, 6))
    prior = Prior(0, 0, tf.constant(u, tf.float64))
    rule = rule_of(1.0, n, ALPHA, "holm")
    _, found, _ = rule.decide(tf.constant(hits), n, prior)
    bound = statistics.randomised_clopper_pearson_lower
    np.testing.assert_allclose(found, bound(hits, n, ALPHA / 24, w), rtol=1e-12)

    @tf.function
    def in_graph(n):
        rule = FixedSamples(1.0, n, ALPHA, "holm")
        return rule.decide(tf.constant(hits), n, prior).p_lower

    np.testing.assert_allclose(in_graph(tf.constant(n)), found, rtol=1e-12)
    few = rule.decide(tf.constant(hits[0]), n, prior).p_lower
    np.testing.assert_allclose(few, bound(hits[0], n, ALPHA / 6, u), rtol=1e-12)


@pytest.mark.parametrize("n", [300, 30_000])
@pytest.mark.parametrize(
    "function", ["randomised_clopper_pearson_lower", "log_evidence", "anytime_lower"]
)
def test_a_bound_is_worked_out_once_for_each_count_not_for_each_pixel(
    monkeypatch, function, n
):
    drawn = n if function.startswith("randomised") else 100
    module = statistics if function.startswith("randomised") else evidence
    sizes, original = [], getattr(module, function)

    def recorded(hits, *rest):
        sizes.append(int(tf.size(hits)))
        return original(hits, *rest)

    monkeypatch.setattr(module, function, recorded)
    hits = np.random.RandomState(0).binomial(100, 0.9, (125, 187)) + drawn - 100
    target = {"log_evidence": {"target_radius": 0.5}, "anytime_lower": {"share": 0.1}}
    rule = rule_of(1.0, n, 0.00123, "holm", **target.get(function, {}))
    for _ in range(2):
        rule.decide(tf.constant(hits), drawn, NOTHING)
    assert 0 < len(sizes) <= 2 * 15
    assert max(sizes) <= 2 * 7 * 301


@pytest.mark.parametrize("correction", statistics.CORRECTIONS)
@pytest.mark.parametrize(
    "way",
    [{}, {"target_radius": 0.7}, {"share": 0.1}],
    ids=["fixed", "target", "share"],
)
def test_the_least_useful_number_of_draws(way, correction):
    pixels = 50

    def certifies(n):
        rule = rule_of(1.0, n, 0.001, correction, **way)
        return bool(
            tf.reduce_any(rule.decide(tf.fill((pixels,), n), n, NOTHING)[2] > 0)
        )

    rule = rule_of(1.0, 1, 0.001, correction, **way)
    least = statistics.least_samples(lambda n: rule.enough(n, 0, pixels))
    assert certifies(least) and not certifies(least - 1)


def test_a_target_that_no_number_of_draws_reaches():
    rule = rule_of(1.0, 1, 0.001, "holm", target_radius=40.0)
    assert statistics.least_samples(lambda n: rule.enough(n, 0, 1)) == 2**31 - 1
    stop, p_lower, radius = rule.decide(tf.constant(1000), 1000, NOTHING)
    assert bool(stop) and float(radius) == 0 and float(p_lower) == 0
