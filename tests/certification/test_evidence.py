"""Evidence, and the bounds and rules made of it, hold at any time."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf

from lps_tf.certification.evidence import (
    GIVE_UP,
    anytime_lower,
    anytime_radius,
    certain_above,
    informed_log_evidence,
    log_evidence,
)
from tests.certification.levels import ALPHA, allowed


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
    found = log_evidence(hits, n, p)
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-9)


@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
def test_evidence_has_a_mean_of_one_at_p_and_less_below(p):
    hits = np.arange(51)
    evidence = np.exp(log_evidence(hits, 50, p))
    at, below = (evidence @ scipy.stats.binom.pmf(hits, 50, q) for q in (p, 0.9 * p))
    np.testing.assert_allclose(at, 1, rtol=1e-9)
    assert below < 1


PRIORS = [(95, 100), (80, 100), (100, 100), (0, 0)]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("hits, n, p", [(30, 40, 0.6), (990, 1000, 0.95), (5, 40, 0.6)])
def test_informed_evidence_is_the_mean_likelihood_ratio(hits, n, p, prior):
    k0, n0 = prior
    before = scipy.stats.beta(k0 + 0.5, n0 - k0 + 0.5)

    def ratio(s):  # with 1 - q = s^2, so that there is no pole
        q = 1 - s * s
        logs = hits * np.log(q / p) + scipy.special.xlogy(n - hits, s * s / (1 - p))
        return np.exp(logs) * before.pdf(q) * 2 * s

    ends = 1e-9, np.sqrt(1 - p)
    peak = np.sqrt(np.clip(1 - (hits + k0) / (n + n0), 0, 0.99 * (1 - p)))
    expected, _ = scipy.integrate.quad(ratio, *ends, points=[peak], limit=500)
    found = informed_log_evidence(hits, n, p, k0, n0)
    np.testing.assert_allclose(found, np.log(expected / before.sf(p)), rtol=1e-5)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("p", [0.3, 0.9, 0.999])
def test_informed_evidence_has_a_mean_of_one_at_p_and_less_below(p, prior):
    hits = np.arange(51)
    evidence = np.exp(informed_log_evidence(hits, 50, p, *prior))
    at, below = (evidence @ scipy.stats.binom.pmf(hits, 50, q) for q in (p, 0.9 * p))
    np.testing.assert_allclose(at, 1, rtol=1e-7)
    assert below < 1


def test_a_selection_that_speaks_against_the_target_is_left_out():
    found = informed_log_evidence(900, 1000, 0.85, [20, 85], 100)
    uninformed = float(log_evidence(900, 1000, 0.85))
    assert found[0] == uninformed and found[1] > uninformed
    # Nothing overflows: not where the selection was sure, nor with many samples.
    sure = informed_log_evidence([0, 500, 1000], 1000, 0.9999, 1000, 1000)
    assert not np.isnan(sure).any() and not np.isposinf(sure).any()


@pytest.mark.slow
@pytest.mark.parametrize("n0", [20, 100])
def test_a_target_is_certified_wrongly_as_rarely_as_alpha_with_a_selection(n0):
    # At the target itself, whenever the evidence suffices first; and it needs fewer
    # samples a little below.
    runs, n, step = 20_000, 600, 20
    random, evidence = np.random.RandomState(0), informed_log_evidence
    informed = tf.function(evidence, autograph=False)
    rates = []
    for p in (0.55, 0.8, 0.97):
        hits = walks(p, runs, n, step)
        selected = random.binomial(n0, p, runs)
        wrong = np.zeros(runs, bool)
        for i, k in enumerate(hits):
            drawn = tf.constant(step * (i + 1))
            log_e = informed(tf.constant(k), drawn, p, tf.constant(selected), n0)
            wrong |= log_e.numpy() >= -np.log(ALPHA)
        rates.append(wrong.mean())
    assert max(rates) <= allowed(runs)
    assert max(rates) > ALPHA / 4


def test_a_target_is_certified_with_fewer_samples_after_a_selection():
    runs, n, step, n0, p, target = 500, 2000, 20, 100, 0.9, 0.84
    hits = walks(p, runs, n, step)
    selected = np.random.RandomState(1).binomial(n0, p, runs)
    times = step * np.arange(1, n // step + 1)[:, None]

    def mean_samples(log_e):
        enough = np.asarray(log_e) >= -np.log(0.001)
        return (
            step * (1 + np.where(enough.any(0), enough.argmax(0), len(hits)))
        ).mean()

    before = mean_samples(log_evidence(hits, times, target))
    after = mean_samples(informed_log_evidence(hits, times, target, selected, n0))
    assert after < 0.97 * before


def test_evidence_falls_with_p():
    p = np.linspace(0.001, 0.999, 999)
    for hits, n in [(0, 10), (1, 1), (7, 10), (1000, 1000), (950, 1000), (3, 1000)]:
        evidence = log_evidence(hits, n, p).numpy()
        assert (np.diff(evidence[np.isfinite(evidence)]) < 1e-12).all()
    # At the ends too it is a number, and there is none against certainty.
    ends = log_evidence(1000, 1000, [0.0, 1.0]).numpy()
    assert ends[0] > 1000 and abs(ends[1]) < 1e-6


@pytest.mark.parametrize("alpha", [0.05, 1e-6])
def test_anytime_bound_is_where_the_evidence_is_one_in_alpha(alpha):
    n = 1000
    hits = np.array([0, 1, 2, 500, 900, 999, 1000])
    found = anytime_lower(hits, n, alpha).numpy()
    assert found[0] == 0
    evidence = log_evidence(hits[1:], n, found[1:])
    np.testing.assert_allclose(evidence, -np.log(alpha), rtol=1e-3)
    assert (evidence.numpy() >= -np.log(alpha)).all()  # on the safe side
    fixed = scipy.stats.beta.ppf(alpha, hits[1:], n - hits[1:] + 1)
    assert (found[1:] < fixed).all()  # holding at all times has a price
    np.testing.assert_allclose(found[3:], fixed[2:], atol=0.03)  # a small one


def test_anytime_bound_broadcasts_and_compiles():
    hits, n = np.array([[3.5], [9.0]]), np.array([10, 50, 70])
    compiled = tf.function(anytime_lower)
    found = compiled(tf.constant(hits), tf.constant(n), tf.constant([[0.1], [0.01]]))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[1, 2], anytime_lower(9.0, 70, 0.01), 1e-6)


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
    compiled = tf.function(certain_above, autograph=False)
    for p in truths:
        hits = walks(p, runs, n, step)
        evidence = log_evidence(hits, times[:, None], p).numpy()
        shares["anytime"].append((evidence >= -np.log(ALPHA)).any(0).mean())
        naive = scipy.stats.beta.ppf(ALPHA, hits, times[:, None] - hits + 1)
        shares["naive"].append((np.nan_to_num(naive) > p).any(0).mean())
        # As it runs: until the rule says that it is decided.
        certain, going = np.zeros(runs, bool), np.ones(runs, bool)
        for k, drawn in zip(hits, times, strict=True):
            above, _ = compiled(
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
        bound, _ = anytime_radius(k, step * (i + 1), n, 0.1, ALPHA, "none")
        worst = np.maximum(worst, bound)
    assert (worst > p).mean() <= allowed(runs)
    assert worst.mean() > 0.72


def decided(hits, drawn, n, p, alpha=0.001):
    certain, stop = certain_above(tf.constant(hits), drawn, n, p, alpha, "holm")
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
        evidence = log_evidence(drawn - k, drawn, 1 - p)
        against |= evidence.numpy() >= -np.log(GIVE_UP)
    assert against.mean() <= allowed(runs, GIVE_UP)


def test_the_share_rule_stops_when_more_draws_add_less():
    def stops(hits, drawn, n, share):
        return bool(
            anytime_radius(tf.constant(hits), drawn, n, share, 0.001, "holm")[1]
        )

    assert not stops(90, 100, 10_000, 0.05)
    assert stops(5400, 6000, 10_000, 0.05)
    assert stops(540, 600, 10_000, 0.3)
    assert stops(90, 100, 100, 0.05)  # there are no more
    # What it says they would add is what they add, at the same rate of hits.
    for drawn in (200, 1000, 5000):
        now, later = (
            scipy.stats.norm.ppf(anytime_lower(0.9 * n, n, 0.001))
            for n in (drawn, 10_000)
        )
        share = 1 - now / later
        k = int(0.9 * drawn)
        assert stops(k, drawn, 10_000, share + 0.001)
        assert not stops(k, drawn, 10_000, share - 0.001)
    # Nothing certified yet: hopeless stops, open does not.
    assert stops(200, 1000, 10_000, 0.05)
    assert not stops(10, 20, 10_000, 0.05)
