"""The statistics of certificates: bounds and tests of a probability from counts.

Everything is float64: float32 is off by more than probabilities near 1 can bear.
Counts have any shape; the pixels of an image are tested together.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf._internal.probability import betaincinv

#: What to do about an image's many pixels, each of which could be wrong.
CORRECTIONS = ("none", "bonferroni", "holm")

#: The chance to give up on a probability although it is above the target. Only the
#: number of samples and of abstentions depends on it, not the level of a certificate.
GIVE_UP = 0.01

# The weight of the alternatives in `log_evidence`: the smaller, the nearer to 1.
_WEIGHT = 0.5


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


def log_evidence(successes: Any, n: Any, p: Any) -> tf.Tensor:
    """Logarithm of the evidence that a probability is above p, at any time.

    If the probability is p or less, the evidence reaches 1/alpha at *any* number of
    samples with probability at most alpha in all: look whenever you like, stop when
    you like. For q > p, the likelihood ratio of q to p gains a factor q/p with a
    success and (1-q)/(1-p) with a failure, whose mean is at most 1 where the
    probability is at most p. So is that of an average over q of such products: a
    supermartingale from 1 on, for which Ville's inequality says just this. With 1-q =
    (1-p) v, v of density b v^(b-1) on (0, 1), the average for k successes and m
    failures is

        E = mean of ((1 - (1-p) v) / p)^k v^m
          = b B(k+1, m+b) I_{1-p}(m+b, k+1) / (p^k (1-p)^(m+b)),

    I being the regularised incomplete beta function. The first form shows that E
    falls with p. Other mixtures would do; this one looks to one side only, so it
    needs fewer samples than one over all of (0, 1), such as Voracek's (2024).

    Args:
        successes: Counts of successes, any shape; need not be whole.
        n: Number of samples so far.
        p: Probabilities in (0, 1), which broadcast with the others.

    Returns:
        log E, float64.
    """
    successes, p = as_double(successes), as_double(p)
    # Of numbers that float64 does not tell from 0 and 1 there is no evidence anyway.
    limits = np.finfo(np.float64)
    p = tf.clip_by_value(p, limits.tiny, 1.0 - limits.epsneg)
    b, failures = _WEIGHT, as_double(n) - successes
    zero = tf.zeros_like(failures + p)  # betainc itself does not broadcast
    successes, failures, p = successes + zero, failures + zero, p + zero
    log_beta = tf.math.lgamma(successes + 1) + tf.math.lgamma(failures + b)
    log_beta -= tf.math.lgamma(successes + failures + 1 + b)
    # The second form of E, term by term; each is far from 1, their sum need not be.
    integral = tf.math.betainc(failures + b, successes + 1, 1 - p)
    log_e = np.log(b) + log_beta + tf.math.log(integral)
    return log_e - successes * tf.math.log(p) - (failures + b) * tf.math.log1p(-p)


def anytime_lower(successes: Any, n: Any, alpha: Any) -> tf.Tensor:
    """Lower confidence bound on a probability that holds at all times at once.

    The smallest p with log_evidence < log(1/alpha). With probability 1 - alpha, none
    of the bounds after 1, 2, 3, ... samples is above the true probability, so it may be
    looked at whenever, and sampling may stop for any reason.

    Args:
        successes: Counts of successes, any shape; need not be whole.
        n: Number of samples so far, broadcast with the successes.
        alpha: Error probability, in (0, 1).

    Returns:
        The bounds, float64; 0 where there is no success.
    """
    successes, n, alpha = as_double(successes), as_double(n), as_double(alpha)
    successes, n = successes + tf.zeros_like(n), n + tf.zeros_like(successes)
    parts = tf.range(1.0, 8.0, dtype=tf.float64) / 8

    def narrow(i: tf.Tensor, low: tf.Tensor, width: tf.Tensor) -> tuple:
        p = low[..., None] + width[..., None] * parts  # (..., 7), inner limits of 8ths
        evidence = log_evidence(successes[..., None], n[..., None], p)
        above = tf.cast(evidence >= -tf.math.log(alpha)[..., None], tf.float64)
        return i + 1, low + width * tf.reduce_sum(above, -1) / 8, width / 8

    # Between 0 and the rate of successes, of which there is no evidence; bisection
    # would take three times the rounds. `low` stays on the safe side.
    start = (0, tf.zeros_like(successes), successes / n)
    return tf.while_loop(lambda i, low, width: i < 12, narrow, start)[1]


def by_count(function: Callable[[tf.Tensor], Any], counts: tf.Tensor) -> Any:
    """A function's value at every count, worked out once for each different one.

    n samples leave at most n + 1 different counts, however many pixels there are.

    Args:
        function: Maps a vector of counts to a vector or a structure of vectors.
        counts: Whole numbers, any shape.

    Returns:
        What `function` gives, in the shape of the counts.
    """
    # (different,) counts, and of each pixel the index of its count among them.
    different, index = tf.unique(tf.reshape(counts, (-1,)))
    return tf.nest.map_structure(
        lambda table: tf.reshape(tf.gather(table, index), tf.shape(counts)),
        function(different),
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


def certain_above(
    successes: tf.Tensor, num_samples: Any, n: Any, p: Any, alpha: Any, correction: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Tells which probabilities are above p, and whether more samples could change it.

    Args:
        successes: Counts of successes, any shape, all of one family.
        num_samples: Number of samples so far.
        n: The most samples.
        p: The probability in question.
        alpha: Error probability, of all together unless the correction is "none".
        correction: One of `CORRECTIONS`.

    Returns:
        Booleans of the shape of successes, which hold at any stopping time; and a
        scalar, True if each is either certain, or out of reach even with nothing but
        successes up to n, or most likely not above p.
    """
    num_samples, n, p = as_double(num_samples), as_double(n), as_double(p)

    def evidences(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        k = as_double(k)
        now = log_evidence(k, num_samples, p)
        best = log_evidence(k + n - num_samples, n, p)
        # Evidence of failures being likelier than 1 - p: whoever has it is given up.
        against = log_evidence(num_samples - k, num_samples, 1 - p)
        return now, tf.where(against >= -np.log(GIVE_UP), now, best)

    now, best = by_count(evidences, successes)
    certain = reject_by_evidence(now, alpha, correction)
    possible = reject_by_evidence(best, alpha, correction)
    return certain, tf.reduce_all(certain | ~possible)


def anytime_radius(
    successes: tf.Tensor,
    num_samples: Any,
    n: Any,
    share: Any,
    alpha: Any,
    correction: str,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Lower bounds, and whether more samples would add little to the radii.

    A radius is Phi^-1(bound), at least 0. What samples up to n would add is estimated
    from the rate of successes so far where there is a radius, and from an upper bound
    on it where there is none yet.

    Args:
        successes: Counts of successes, any shape, all of one family.
        num_samples: Number of samples so far.
        n: The most samples.
        share: Share of the sum of radii to come that is not worth more samples.
        alpha: Error probability, of all together unless the correction is "none".
        correction: One of `CORRECTIONS`.

    Returns:
        Bounds of the shape of successes, which hold at any stopping time; and a scalar.
    """
    num_samples, n = as_double(num_samples), as_double(n)
    level = share_of_alpha(alpha, tf.size(successes), correction)

    def bounds(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        k = as_double(k)
        # (2, different): bounds on successes at `level` and on failures at GIVE_UP, in
        # one call, which searches for both.
        both = tf.stack([k, num_samples - k])
        levels = tf.stack([level, GIVE_UP])[:, None]
        now, failures = tf.unstack(anytime_lower(both, num_samples, levels))
        rate = tf.where(now > 0.5, k / num_samples, 1 - failures)
        return now, anytime_lower(k + rate * (n - num_samples), n, level)

    now, later = by_count(bounds, successes)
    gain = tf.reduce_sum(tf.nn.relu(unit_radius(later) - unit_radius(now)))
    total = tf.reduce_sum(unit_radius(later))
    return now, gain <= as_double(share) * total


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
