"""Bounds and tests that hold at any time, and for all pixels of an image at once."""

import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

from lps_tf.certification import statistics
from lps_tf.certification.stopping import FixedSamples, RelativeGain, TargetRadius

ALPHA = 0.05


def rule_of(sigma, n, alpha, correction, target_radius=None, share=None):
    """The stopping rule of one of the three ways."""
    common = sigma, n, alpha, correction
    if target_radius is not None:
        return TargetRadius(*common, target_radius)
    return FixedSamples(*common) if share is None else RelativeGain(*common, share)


def allowed(runs, alpha=ALPHA):
    return alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(
    "hits, n, p",
    [(30, 40, 0.6), (5, 40, 0.6), (990, 1000, 0.95), (10_000, 10_000, 0.999)],
)
def test_evidence_is_the_mean_likelihood_ratio(hits, n, p):
    # Its first form, with v = s^2 so that there is no pole.
    def ratio(s):
        with np.errstate(divide="ignore"):
            logs = scipy.special.xlogy(2 * (n - hits), s)
        return np.exp(hits * np.log((1 - (1 - p) * s * s) / p) + logs)

    peak = np.sqrt(min(1, (1 - hits / n) / (1 - p)))
    expected, _ = scipy.integrate.quad(ratio, 0, 1, points=[peak], limit=500)
    found = statistics.log_evidence(hits, n, p)
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-9)


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
def test_evidence_has_a_mean_of_one_at_p_and_less_below(p):
    hits = np.arange(51)
    evidence = np.exp(statistics.log_evidence(hits, 50, p))
    at, below = (evidence @ scipy.stats.binom.pmf(hits, 50, q) for q in (p, 0.9 * p))
    np.testing.assert_allclose(at, 1, rtol=1e-9)
    assert below < 1


def test_evidence_falls_with_p():
    p = np.linspace(0.001, 0.999, 999)
    for hits, n in [(0, 10), (1, 1), (7, 10), (1000, 1000), (950, 1000), (3, 1000)]:
        evidence = statistics.log_evidence(hits, n, p).numpy()
        assert (np.diff(evidence[np.isfinite(evidence)]) < 1e-12).all()
    # At the ends too it is a number, and there is none against certainty.
    ends = statistics.log_evidence(1000, 1000, [0.0, 1.0]).numpy()
    assert ends[0] > 1000 and abs(ends[1]) < 1e-6


@pytest.mark.parametrize("alpha", [0.05, 1e-6])
def test_anytime_bound_is_where_the_evidence_is_one_in_alpha(alpha):
    n = 1000
    hits = np.array([0, 1, 2, 500, 900, 999, 1000])
    found = statistics.anytime_lower(hits, n, alpha).numpy()
    assert found[0] == 0
    evidence = statistics.log_evidence(hits[1:], n, found[1:])
    np.testing.assert_allclose(evidence, -np.log(alpha), rtol=1e-3)
    assert (evidence.numpy() >= -np.log(alpha)).all()  # on the safe side
    fixed = scipy.stats.beta.ppf(alpha, hits[1:], n - hits[1:] + 1)
    assert (found[1:] < fixed).all()  # holding at all times has a price
    np.testing.assert_allclose(found[3:], fixed[2:], atol=0.03)  # a small one


def test_anytime_bound_broadcasts_and_compiles():
    hits, n = np.array([[3.5], [9.0]]), np.array([10, 50, 70])
    compiled = tf.function(statistics.anytime_lower)
    found = compiled(tf.constant(hits), tf.constant(n), tf.constant([[0.1], [0.01]]))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(
        found[1, 2], statistics.anytime_lower(9.0, 70, 0.01), 1e-6
    )


# Simulations. `certain_above` with the correction "none" decides on many independent
# runs at once.


def walks(p, runs, n, step, seed=0):
    """Hits after step, 2 step, ..., n draws, (n / step, runs)."""
    random = np.random.RandomState(seed)
    return random.binomial(step, p, (n // step, runs)).cumsum(0)


@pytest.mark.slow
def test_levels_hold_when_draws_stop_at_the_first_success_and_naive_peeking_fails():
    runs, n, step = 3000, 1000, 10
    times = step * np.arange(1, n // step + 1)
    truths = [0.05, 0.3, 0.5, 0.7, 0.84, 0.95, 0.99, 0.999]  # 24,000 runs
    shares = {"anytime": [], "rule": [], "naive": []}
    certain_above = tf.function(statistics.certain_above, autograph=False)
    for p in truths:
        hits = walks(p, runs, n, step)
        evidence = statistics.log_evidence(hits, times[:, None], p).numpy()
        shares["anytime"].append((evidence >= -np.log(ALPHA)).any(0).mean())
        naive = scipy.stats.beta.ppf(ALPHA, hits, times[:, None] - hits + 1)
        shares["naive"].append((np.nan_to_num(naive) > p).any(0).mean())
        # As it runs: until the rule says that it is decided.
        certain, going = np.zeros(runs, bool), np.ones(runs, bool)
        for k, drawn in zip(hits, times, strict=True):
            above, _ = certain_above(
                tf.constant(k),
                tf.constant(drawn),
                n,
                tf.constant(p, tf.float64),
                ALPHA,
                "none",
            )
            certain |= going & above.numpy()
            going &= ~above.numpy()
        shares["rule"].append(certain.mean())
    assert max(shares["anytime"]) <= allowed(runs)
    assert max(shares["rule"]) <= allowed(runs)
    assert max(shares["anytime"]) > ALPHA / 4  # and not by being far too careful
    assert max(shares["naive"]) > 2 * allowed(runs)


def test_bounds_of_stopped_runs_hold():
    # Each run stops where its own share rule does, or its bound first looks good.
    runs, n, step, p = 1500, 400, 20, 0.8
    hits = walks(p, runs, n, step)
    worst = np.zeros(runs)
    for i, k in enumerate(hits):
        bound, _ = statistics.anytime_radius(k, step * (i + 1), n, 0.1, ALPHA, "none")
        worst = np.maximum(worst, bound)
    assert (worst > p).mean() <= allowed(runs)
    assert worst.mean() > 0.72


def decided(hits, drawn, n, p, alpha=0.001):
    certain, stop = statistics.certain_above(
        tf.constant(hits), drawn, n, p, alpha, "holm"
    )
    return bool(certain), bool(stop)


def test_it_stops_when_certified_or_hopeless_and_goes_on_otherwise():
    assert decided(100, 100, 10_000, 0.7) == (True, True)
    assert decided(60, 100, 10_000, 0.9) == (False, True)  # most likely below
    assert decided(75, 100, 10_000, 0.7) == (False, False)  # open
    assert decided(75, 100, 101, 0.7) == (False, True)  # too few left
    # Certified at an earlier time does not mean at this one.
    assert decided(5100, 10_000, 10_000, 0.7) == (False, True)


def test_few_runs_above_the_target_are_given_up():
    runs, n, step, p = 2000, 2000, 20, 0.6
    against = np.zeros(runs, bool)
    for i, k in enumerate(walks(p, runs, n, step)):
        drawn = step * (i + 1)
        evidence = statistics.log_evidence(drawn - k, drawn, 1 - p)
        against |= evidence.numpy() >= -np.log(statistics.GIVE_UP)
    assert against.mean() <= allowed(runs, statistics.GIVE_UP)


def test_the_share_rule_stops_when_more_draws_add_less():
    def stops(hits, drawn, n, share):
        return bool(
            statistics.anytime_radius(
                tf.constant(hits), drawn, n, share, 0.001, "holm"
            )[1]
        )

    assert not stops(90, 100, 10_000, 0.05)
    assert stops(5400, 6000, 10_000, 0.05)
    assert stops(540, 600, 10_000, 0.3)
    assert stops(90, 100, 100, 0.05)  # there are no more
    # What it says they would add is what they add, at the same rate of hits.
    for drawn in (200, 1000, 5000):
        now, later = (
            scipy.stats.norm.ppf(statistics.anytime_lower(0.9 * n, n, 0.001))
            for n in (drawn, 10_000)
        )
        share = 1 - now / later
        k = int(0.9 * drawn)
        assert stops(k, drawn, 10_000, share + 0.001)
        assert not stops(k, drawn, 10_000, share - 0.001)
    # Nothing certified yet: hopeless stops, open does not.
    assert stops(200, 1000, 10_000, 0.05)
    assert not stops(10, 20, 10_000, 0.05)


# Many pixels.


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
        _, p_lower, found = rule.decide(hits, n)
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
        decide = tf.function(lambda k, rule=rule: rule.decide(k, n), autograph=False)
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
        _, p_lower, radius = rule_of(2.0, 1000, ALPHA, correction).decide(hits, 1000)
        expected = scipy.stats.beta.ppf(level, hits, 1000 - hits + 1)
        np.testing.assert_allclose(p_lower, expected, rtol=1e-6)
        np.testing.assert_allclose(radius, 2 * scipy.stats.norm.ppf(expected), 1e-5)
    # As published for 125x187 pixels: 2.463 sigma shrinks to 2.124.
    all_hits = np.full((125, 187), 1000)
    for correction, radius in (("none", 2.463), ("holm", 2.124)):
        found = rule_of(1.0, 1000, 0.001, correction).decide(all_hits, 1000)[2]
        np.testing.assert_allclose(found, radius, atol=5e-4)


@pytest.mark.parametrize("n", [300, 30_000])
@pytest.mark.parametrize(
    "function", ["clopper_pearson_lower", "log_evidence", "anytime_lower"]
)
def test_a_bound_is_worked_out_once_for_each_count_not_for_each_pixel(
    monkeypatch, function, n
):
    drawn = n if function == "clopper_pearson_lower" else 100
    sizes, original = [], getattr(statistics, function)

    def recorded(hits, *rest):
        sizes.append(int(tf.size(hits)))
        return original(hits, *rest)

    monkeypatch.setattr(statistics, function, recorded)
    hits = np.random.RandomState(0).binomial(100, 0.9, (125, 187)) + drawn - 100
    target = {"log_evidence": {"target_radius": 0.5}, "anytime_lower": {"share": 0.1}}
    rule = rule_of(1.0, n, 0.00123, "holm", **target.get(function, {}))
    for _ in range(2):
        rule.decide(tf.constant(hits), drawn)
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
        return bool(tf.reduce_any(rule.decide(tf.fill((pixels,), n), n)[2] > 0))

    rule = rule_of(1.0, 1, 0.001, correction, **way)
    least = statistics.least_samples(lambda n: rule.enough(n, pixels))
    assert certifies(least) and not certifies(least - 1)


def test_a_target_that_no_number_of_draws_reaches():
    rule = rule_of(1.0, 1, 0.001, "holm", target_radius=40.0)
    assert statistics.least_samples(lambda n: rule.enough(n, 1)) == 2**31 - 1
    stop, p_lower, radius = rule.decide(tf.constant(1000), 1000)
    assert bool(stop) and float(radius) == 0 and float(p_lower) == 0
