"""Evidence that a probability is above another, which may be looked at at any time.

Samples may stop for any reason, and what is said of them holds; `statistics` has what
holds for a number of samples that was fixed beforehand, in float64 as here.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from lps_tf.certification.statistics import (
    as_double,
    betainc,
    by_count,
    last_below,
    reject_by_evidence,
    share_of_alpha,
    unit_radius,
)

#: The chance to give up on a probability although it is above the target. Only the
#: number of samples and of abstentions depends on it, not the level of a certificate.
GIVE_UP = 0.01

# Other samples that give less than this mass to what is above a target say nothing of
# how probable it is there.
_LEAST_MASS = 1e-9

# The weight of the alternatives in `log_evidence`: the smaller, the nearer to 1.
_WEIGHT = 0.5


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
    log_beta = tf.math.lgamma(successes + 1) + tf.math.lgamma(failures + b)
    log_beta -= tf.math.lgamma(successes + failures + 1 + b)
    # The second form of E, term by term; each is far from 1, their sum need not be.
    integral = betainc(failures + b, successes + 1, 1 - p)
    log_e = np.log(b) + log_beta + tf.math.log(integral)
    return log_e - successes * tf.math.log(p) - (failures + b) * tf.math.log1p(-p)


def informed_log_evidence(
    successes: Any, n: Any, p: Any, prior_successes: Any, prior_n: Any
) -> tf.Tensor:
    """Logarithm of the evidence that a probability is above p, after other samples.

    As `log_evidence`, with alternatives q that other, independent samples make likely:
    those of a beta distribution, their posterior from Jeffreys' prior, above p. It is
    fixed before the first sample that counts, so the mean likelihood ratio still is a
    supermartingale from 1 on wherever the probability is at most p. With a and b half
    more than the other samples' successes and failures,

        E = [B(k+a, m+b) I_{1-p}(m+b, k+a)] / [B(a, b) I_{1-p}(b, a) p^k (1-p)^m].

    A target is reached with fewer samples than by `log_evidence`, unless the other
    samples are few. It need not fall with p, so there is no bound for all p at once in
    it. Where the other samples have next to no mass above p, it is `log_evidence`.

    Args:
        successes: Counts of successes, any shape; need not be whole.
        n: Number of samples so far.
        p: Probabilities in (0, 1), which broadcast with the others.
        prior_successes: Successes among the other samples.
        prior_n: Number of the other samples.

    Returns:
        log E, float64.

    References:
        Halt Fast (2026), arXiv:2606.27694, for a prior of each image's own.
    """
    successes, p = as_double(successes), as_double(p)
    limits = np.finfo(np.float64)
    p = tf.clip_by_value(p, limits.tiny, 1.0 - limits.epsneg)
    failures = as_double(n) - successes
    a = as_double(prior_successes) + 0.5
    b = as_double(prior_n) - as_double(prior_successes) + 0.5

    def log_beta(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.math.lgamma(a) + tf.math.lgamma(b) - tf.math.lgamma(a + b)

    mass = betainc(b, a, 1 - p)  # before the samples, and after them
    later = betainc(failures + b, successes + a, 1 - p)
    log_e = log_beta(successes + a, failures + b) - log_beta(a, b)
    log_e += tf.math.log(later) - tf.math.log(tf.maximum(mass, _LEAST_MASS))
    log_e -= successes * tf.math.log(p) + failures * tf.math.log1p(-p)
    uninformed = log_evidence(successes, n, p)
    return tf.where(mass >= _LEAST_MASS, log_e, uninformed)


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

    def enough(p: tf.Tensor) -> tf.Tensor:
        evidence = log_evidence(successes[..., None], n[..., None], p)
        return evidence >= -tf.math.log(alpha)[..., None]

    # Between 0 and the rate of successes, of which there is no evidence.
    return last_below(enough, tf.zeros_like(successes), successes / n, rounds=12)


def certain_above(
    successes: tf.Tensor,
    num_samples: Any,
    n: Any,
    p: Any,
    alpha: Any,
    correction: str,
    *,
    prior_successes: Any = 0,
    prior_n: Any = 0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Tells which probabilities are above p, and whether more samples could change it.

    Args:
        successes: Counts of successes, any shape, all of one family.
        num_samples: Number of samples so far.
        n: The most samples.
        p: The probability in question.
        alpha: Error probability, of all together unless the correction is "none".
        correction: One of `CORRECTIONS`.
        prior_successes: Counts of successes among other, independent samples, of the
            same shape; see `informed_log_evidence`.
        prior_n: Number of the other samples.

    Returns:
        Booleans of the shape of successes, which hold at any stopping time; and a
        scalar, True if each is either certain, or out of reach even with nothing but
        successes up to n, or most likely not above p.
    """
    num_samples, n, p = as_double(num_samples), as_double(n), as_double(p)

    def evidences(k: tf.Tensor, k0: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        k = as_double(k)
        now = informed_log_evidence(k, num_samples, p, k0, prior_n)
        best = informed_log_evidence(k + n - num_samples, n, p, k0, prior_n)
        # Evidence of failures being likelier than 1 - p: whoever has it is given up.
        against = log_evidence(num_samples - k, num_samples, 1 - p)
        return now, tf.where(against >= -np.log(GIVE_UP), now, best)

    prior_successes = tf.broadcast_to(prior_successes, tf.shape(successes))
    now, best = by_count(evidences, successes, prior_successes)
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
