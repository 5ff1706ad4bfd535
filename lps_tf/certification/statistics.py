"""Bounds and tests of a probability from the counts of a fixed number of samples.

Those that hold at any time are in `evidence`.

Everything is float64: float32 is off by more than probabilities near 1 can bear.
Counts have any shape; the pixels of an image are tested together.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lps_tf._internal.probability import betaincinv

#: What to do about an image's many pixels, each of which could be wrong.
CORRECTIONS = ("none", "bonferroni", "holm")


def clopper_pearson_lower(successes: Any, n: Any, alpha: Any) -> tf.Tensor:
    """One-sided Clopper-Pearson lower confidence bound on a probability.

    The true probability is below the bound with probability at most alpha, for a
    number of samples that was fixed beforehand.

    Args:
        successes: Counts of successes, any shape, 0 <= successes <= n.
        n: Number of samples, broadcast with the successes.
        alpha: Error probability, in (0, 1).

    Returns:
        The bounds, float64; 0 where there is no success.
    """
    successes, n, alpha = as_double(successes), as_double(n), as_double(alpha)
    some = tf.maximum(successes, 1.0)
    bound = betaincinv(some, n - some + 1.0, alpha)
    return tf.where(successes > 0, bound, tf.zeros_like(bound))


def randomised_clopper_pearson_lower(
    successes: Any, n: Any, alpha: Any, uniform: Any
) -> tf.Tensor:
    """Clopper and Pearson's lower bound of a count that is made continuous.

    A count is discrete, so the bound of Clopper and Pearson is wrong with less than
    the probability alpha that it may be. To k successes a number w, uniform on (0, 1)
    and independent of them, adds 1 - w of a success: the bound is the p for which

        P(more than k of n) + w P(k of n) = alpha,

    with n samples of probability p (Voracek 2024, arXiv:2406.17830). It is above the
    true probability with probability alpha exactly, and it lies between the bounds of
    k and of k + 1 successes, so it is never below the usual one.

    One thing is left out: n successes and a w below alpha would make it 1, and the
    radius infinite. It is at most 2^(-1/n), where n successes have the probability 1/2.
    For probabilities from there on it is never wrong.

    Args:
        successes: Counts of successes, any shape, 0 <= successes <= n.
        n: Number of samples, fixed beforehand.
        alpha: Error probability, in (0, 1).
        uniform: The number w in (0, 1], a scalar; of 1, the bound is the usual one.

    Returns:
        The bounds, float64 of the shape of the successes.

    References:
        Voracek (2024), "Treatment of statistical estimation problems in randomized
        smoothing for adversarial robustness", arXiv:2406.17830.
    """
    successes, n, alpha = as_double(successes), as_double(n), as_double(alpha)
    k, w = successes[..., None], as_double(uniform)
    fewer = tf.minimum(k, n - 1)  # of n successes, P(more than k) is 0
    log_choose = tf.math.lgamma(n + 1) - tf.math.lgamma(k + 1)
    log_choose -= tf.math.lgamma(n - k + 1)

    def tail(p: tf.Tensor) -> tf.Tensor:
        # P(more than k of n) is the regularised I_p(k + 1, n - k).
        more = tf.where(k < n, betainc(fewer + 1, n - fewer, p), 0.0)
        logs = tf.math.xlogy(k, p) + tf.math.xlog1py(n - k, -p)
        return more + w * tf.exp(log_choose + logs)

    zero = tf.zeros_like(successes)
    bound = last_below(lambda p: tail(p) < alpha, zero, zero + 1, rounds=14)
    largest = tf.pow(tf.constant(0.5, tf.float64), 1 / n)
    usual = tf.pow(alpha, 1 / n)  # of n successes, if alpha is above 1/2
    return tf.minimum(bound, tf.maximum(largest, usual))


def betainc(a: tf.Tensor, b: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The regularised incomplete beta function I_x(a, b), which broadcasts here."""
    zero = tf.zeros_like(a + b + x)
    return tf.math.betainc(a + zero, b + zero, x + zero)


def last_below(
    below: Callable[[tf.Tensor], tf.Tensor],
    low: tf.Tensor,
    width: tf.Tensor,
    rounds: int,
) -> tf.Tensor:
    """The largest points in intervals up to which a condition holds, on the safe side.

    Args:
        below: Maps points (..., 7) to booleans: true up to some point, then false.
        low: Lower ends of the intervals, (...).
        width: Their widths, (...).
        rounds: Each of them divides an interval by 8; bisection would take three
            times as many.
    """
    parts = tf.range(1.0, 8.0, dtype=tf.float64) / 8

    def narrow(i: tf.Tensor, low: tf.Tensor, width: tf.Tensor) -> tuple:
        p = low[..., None] + width[..., None] * parts  # (..., 7), inner limits of 8ths
        number = tf.reduce_sum(tf.cast(below(p), tf.float64), -1)
        return i + 1, low + width * number / 8, width / 8

    return tf.while_loop(lambda i, low, width: i < rounds, narrow, (0, low, width))[1]


def binomial_test(top: Any, second: Any) -> tf.Tensor:
    """Two-sided p-value of `top` heads in top + second tosses of a fair coin.

    Args:
        top: The larger count, any shape.
        second: The smaller count.

    Returns:
        The p-values, float64.
    """
    top, second = as_double(top), as_double(second)
    half = tf.constant(0.5, tf.float64)
    # P(at least `top` of them) is an incomplete beta function; none of none is 1.
    # It is the regularised I_1/2(top, second + 1).
    tail = tf.math.betainc(tf.maximum(top, 1.0), second + 1.0, half)
    tail = tf.where(top > 0, tail, tf.ones_like(tail))
    return tf.minimum(2.0 * tail, tf.ones_like(tail))


def by_count(
    function: Callable[..., Any], counts: tf.Tensor, others: tf.Tensor | None = None
) -> Any:
    """A function's value at every count, worked out once for each different one.

    n samples leave at most n + 1 different counts, however many pixels there are.

    Args:
        function: Maps a vector of counts, or two, to a vector or a structure of
            vectors.
        counts: Whole numbers, any shape.
        others: Counts of the same shape that belong to them, if there are any.

    Returns:
        What `function` gives, in the shape of the counts.
    """
    flat = tf.cast(tf.reshape(counts, (-1,)), tf.int64)
    # A pair of counts is one number: the second is written before the first.
    base = tf.reduce_max(flat) + 1
    if others is not None:
        flat += base * tf.cast(tf.reshape(others, (-1,)), tf.int64)
    # (different,) numbers, and of each pixel the index of its number among them.
    different, index = tf.unique(flat)
    pair = (different % base, different // base)
    return tf.nest.map_structure(
        lambda table: tf.reshape(tf.gather(table, index), tf.shape(counts)),
        function(*(pair if others is not None else pair[:1])),
    )


def share_of_alpha(alpha: Any, tests: Any, correction: str) -> tf.Tensor:
    """The level of each of many bounds, so that all hold at once with 1 - alpha.

    Holm's correction rejects more hypotheses than Bonferroni's, but bounds that go
    with it say no more; so either divides alpha by the number of bounds.

    Args:
        alpha: Error probability of all together.
        tests: How many there are.
        correction: One of `CORRECTIONS`.
    """
    alpha = as_double(alpha)
    return alpha if correction == "none" else alpha / tf.cast(tests, tf.float64)


def reject_by_p(p_values: tf.Tensor, alpha: Any, correction: str) -> tf.Tensor:
    """Rejects hypotheses, given a p-value for each.

    Args:
        p_values: Any shape, all of one family.
        alpha: Probability to reject any true one, or each true one for "none".
        correction: One of `CORRECTIONS`; both others hold however the p-values
            depend on each other, and Holm's rejects all that Bonferroni's does.

    Returns:
        Booleans of the same shape.
    """
    if correction != "holm":
        return p_values <= share_of_alpha(alpha, tf.size(p_values), correction)
    flat = tf.reshape(p_values, (-1,))
    order = tf.argsort(flat)
    # Holm: the smallest of m is compared with alpha / m, the next with alpha / (m - 1).
    left = tf.cast(tf.range(tf.size(flat), 0, -1), tf.float64)
    small = tf.gather(flat, order) <= as_double(alpha) / left
    rejected = tf.math.cumprod(tf.cast(small, tf.int32))  # up to the first failure
    rejected = tf.scatter_nd(order[:, None], rejected, tf.shape(flat))
    return tf.reshape(tf.cast(rejected, tf.bool), tf.shape(p_values))


def reject_by_evidence(log_e: tf.Tensor, alpha: Any, correction: str) -> tf.Tensor:
    """Rejects hypotheses, given the evidence against each; as `reject_by_p`.

    Evidence has a mean of at most 1 under its hypothesis, at any stopping time, and so
    has the mean evidence of several true ones. "holm" rejects where every group that
    the hypothesis belongs to has a mean of at least 1/alpha (closed testing): Holm's
    correction with means in the place of maxima, which rejects at least as many.

    Args:
        log_e: Logarithms of the evidence, any shape, all of one family.
        alpha: Probability to reject any true one, or each true one for "none".
        correction: One of `CORRECTIONS`.

    Returns:
        Booleans of the same shape.
    """
    if correction != "holm":
        level = share_of_alpha(alpha, tf.size(log_e), correction)
        return log_e >= -tf.math.log(level)
    # The worst group: with all of those whose evidence is below 1/alpha. Cut off where
    # the exponential overflows.
    evidence = tf.exp(tf.minimum(log_e, 600.0))
    needed = 1 / as_double(alpha)
    return evidence >= needed + tf.reduce_sum(tf.nn.relu(needed - evidence))


def unit_radius(p_lower: tf.Tensor) -> tf.Tensor:
    """The certified radius for noise of standard deviation 1, 0 up to p = 1/2."""
    return tf.math.ndtri(tf.maximum(p_lower, 0.5))


def least_samples(enough: Callable[[int], bool]) -> int:
    """The smallest number of samples that is enough, by bisection.

    Args:
        enough: Whether n samples are; true from some n on.

    Returns:
        The number; 2^31 - 1, the most there can be, if that is not enough either.
    """
    low, high = 0, 2**31 - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def as_double(value: Any) -> tf.Tensor:
    """A number or tensor as float64."""
    # `tf.cast` alone would take a Python float through float32.
    if tf.is_tensor(value):
        return tf.cast(value, tf.float64)
    return tf.constant(value, tf.float64)
