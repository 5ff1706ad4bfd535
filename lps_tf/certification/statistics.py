"""The statistics of certificates: bounds and tests of a probability from counts.

Everything is float64: float32 is off by more than probabilities near 1 can bear.
Counts have any shape; the pixels of an image are tested together.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

#: What to do about an image's many pixels, each of which could be wrong.
CORRECTIONS = ("none", "bonferroni", "holm")

#: The chance to give up on a probability although it is above the target. Only the
#: number of draws and of abstentions depends on it, not the level of a certificate.
GIVE_UP = 0.01

# The weight of the alternatives in `log_evidence`: the smaller, the nearer to 1.
_WEIGHT = 0.5


def clopper_pearson_lower(hits: Any, n: Any, alpha: Any) -> tf.Tensor:
    """One-sided Clopper-Pearson lower confidence bound on a probability.

    The true probability is below the bound with probability at most alpha, for a
    number of draws that was fixed beforehand.

    Args:
        hits: successes, any shape, 0 <= hits <= n.
        n: draws, broadcast with hits.
        alpha: error probability, in (0, 1).

    Returns:
        The bounds, float64; 0 for no hits.
    """
    hits, n, alpha = _double(hits), _double(n), _double(alpha)
    some = tf.maximum(hits, 1.0)
    bound = tfp.math.betaincinv(some, n - some + 1.0, alpha)
    return tf.where(hits > 0, bound, tf.zeros_like(bound))


def binomial_test(top: Any, second: Any) -> tf.Tensor:
    """Two-sided p-value of top successes in top + second fair coin tosses, float64.

    Args:
        top: the larger count, any shape.
        second: the smaller count.
    """
    top, second = _double(top), _double(second)
    half = tf.constant(0.5, tf.float64)
    # P(at least `top` of them) is an incomplete beta function; none of none is 1.
    tail = tf.math.betainc(tf.maximum(top, 1.0), second + 1.0, half)
    tail = tf.where(top > 0, tail, tf.ones_like(tail))
    return tf.minimum(2.0 * tail, tf.ones_like(tail))


def log_evidence(hits: Any, n: Any, p: Any) -> tf.Tensor:
    """Logarithm of the evidence that a probability is above p, at any time.

    If the probability is p or less, the evidence reaches 1/alpha at *any* number of
    draws with probability at most alpha in all: look whenever you like, stop when you
    like. For q > p, the likelihood ratio of q to p gains a factor q/p with a hit and
    (1-q)/(1-p) with a miss, whose mean is at most 1 where the probability is at most
    p. So is that of an average over q of such products: a supermartingale from 1 on,
    for which Ville's inequality says just this. With 1-q = (1-p) v, v of density
    b v^(b-1) on (0, 1), the average for k hits and m misses is

        E = mean of ((1 - (1-p) v) / p)^k v^m
          = b B(k+1, m+b) I_{1-p}(m+b, k+1) / (p^k (1-p)^(m+b)),

    I being the regularised incomplete beta function. The first form shows that E
    falls with p. Other mixtures would do; this one looks to one side only, so it
    needs fewer draws than one over all of (0, 1), such as Voracek's (2024).

    Args:
        hits: successes, any shape; need not be whole.
        n: draws so far.
        p: probabilities in (0, 1), which broadcast with the others.

    Returns:
        log E, float64.
    """
    hits, p = _double(hits), _double(p)
    # Of numbers that float64 does not tell from 0 and 1 there is no evidence anyway.
    double = np.finfo(np.float64)
    p = tf.clip_by_value(p, double.tiny, 1.0 - double.epsneg)
    b, misses = _WEIGHT, _double(n) - hits
    zero = tf.zeros_like(misses + p)  # betainc itself does not broadcast
    hits, misses, p = hits + zero, misses + zero, p + zero
    log_beta = tf.math.lgamma(hits + 1) + tf.math.lgamma(misses + b)
    log_beta -= tf.math.lgamma(hits + misses + 1 + b)
    share = tf.math.betainc(misses + b, hits + 1, 1 - p)
    log_e = np.log(b) + log_beta + tf.math.log(share)
    return log_e - hits * tf.math.log(p) - (misses + b) * tf.math.log1p(-p)


def anytime_lower(hits: Any, n: Any, alpha: Any) -> tf.Tensor:
    """Lower confidence bound on a probability that holds at all times at once.

    The smallest p with log_evidence < log(1/alpha). With probability 1 - alpha, none
    of the bounds after 1, 2, 3, ... draws is above the true probability, so it may be
    looked at whenever, and draws may stop for any reason.

    Args:
        hits: successes, any shape; need not be whole.
        n: draws so far, broadcast with hits.
        alpha: error probability, in (0, 1).

    Returns:
        The bounds, float64; 0 for no hits.
    """
    hits, n, alpha = _double(hits), _double(n), _double(alpha)
    hits, n = hits + tf.zeros_like(n), n + tf.zeros_like(hits)
    parts = tf.range(1.0, 8.0, dtype=tf.float64) / 8

    def narrow(i: tf.Tensor, low: tf.Tensor, width: tf.Tensor) -> tuple:
        p = low[..., None] + width[..., None] * parts
        evidence = log_evidence(hits[..., None], n[..., None], p)
        above = tf.cast(evidence >= -tf.math.log(alpha)[..., None], tf.float64)
        return i + 1, low + width * tf.reduce_sum(above, -1) / 8, width / 8

    # Between 0 and the rate of hits, of which there is no evidence; bisection would
    # take three times the rounds. `low` stays on the safe side.
    start = (0, tf.zeros_like(hits), hits / n)
    return tf.while_loop(lambda i, *_: i < 12, narrow, start)[1]


def by_count(function: Callable[[tf.Tensor], Any], counts: tf.Tensor) -> Any:
    """`function` of every count, worked out once for each different one.

    n draws leave at most n + 1 different counts, however many pixels there are.

    Args:
        function: of a vector of counts, to a vector or a structure of them.
        counts: whole numbers, any shape.

    Returns:
        What `function` gives, in the shape of the counts.
    """
    different, place = tf.unique(tf.reshape(counts, (-1,)))
    return tf.nest.map_structure(
        lambda table: tf.reshape(tf.gather(table, place), tf.shape(counts)),
        function(different),
    )


def share_of_alpha(alpha: Any, tests: Any, correction: str) -> tf.Tensor:
    """The level of each of many bounds, so that all hold at once with 1 - alpha.

    Holm's correction rejects more hypotheses than Bonferroni's, but bounds that go
    with it say no more; so either divides alpha by the number of bounds.

    Args:
        alpha: error probability of all together.
        tests: how many there are.
        correction: one of `CORRECTIONS`.
    """
    alpha = _double(alpha)
    return alpha if correction == "none" else alpha / tf.cast(tests, tf.float64)


def reject_by_p(p_values: tf.Tensor, alpha: Any, correction: str) -> tf.Tensor:
    """Which hypotheses go, given a p-value for each.

    Args:
        p_values: any shape, all of one family.
        alpha: probability to reject any true one, or each true one for "none".
        correction: one of `CORRECTIONS`; both others hold however the p-values
            depend on each other, and Holm's rejects all that Bonferroni's does.

    Returns:
        Booleans of the same shape.
    """
    if correction != "holm":
        return p_values <= share_of_alpha(alpha, tf.size(p_values), correction)
    flat = tf.reshape(p_values, (-1,))
    order = tf.argsort(flat)
    left = tf.cast(tf.range(tf.size(flat), 0, -1), tf.float64)
    small = tf.gather(flat, order) <= _double(alpha) / left
    rejected = tf.math.cumprod(tf.cast(small, tf.int32))  # up to the first failure
    rejected = tf.scatter_nd(order[:, None], rejected, tf.shape(flat))
    return tf.reshape(tf.cast(rejected, tf.bool), tf.shape(p_values))


def reject_by_evidence(log_e: tf.Tensor, alpha: Any, correction: str) -> tf.Tensor:
    """Which hypotheses go, given the evidence against each; as `reject_by_p`.

    Evidence has a mean of at most 1 under its hypothesis, at any stopping time, and so
    has the mean evidence of several true ones. "holm" rejects where every group that
    the hypothesis belongs to has a mean of at least 1/alpha (closed testing): Holm's
    correction with means in the place of maxima, which rejects at least as many.

    Args:
        log_e: logarithms of the evidence, any shape, all of one family.
        alpha: probability to reject any true one, or each true one for "none".
        correction: one of `CORRECTIONS`.

    Returns:
        Booleans of the same shape.
    """
    if correction != "holm":
        level = share_of_alpha(alpha, tf.size(log_e), correction)
        return log_e >= -tf.math.log(level)
    # The worst group: with all of those whose evidence is below 1/alpha. Cut off where
    # the exponential overflows.
    evidence = tf.exp(tf.minimum(log_e, 600.0))
    needed = 1 / _double(alpha)
    return evidence >= needed + tf.reduce_sum(tf.nn.relu(needed - evidence))


def certain_above(
    hits: tf.Tensor, drawn: Any, n: Any, p: Any, alpha: Any, correction: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Which probabilities are above p, and whether more draws could change that.

    Args:
        hits: whole numbers of successes, any shape, all of one family.
        drawn: draws so far.
        n: draws at most.
        p: the probability in question.
        alpha: error probability, of all together unless the correction is "none".
        correction: one of `CORRECTIONS`.

    Returns:
        Booleans of the shape of hits, which hold at any stopping time; and a scalar,
        True if each is either certain, or so even with nothing but hits up to n, or
        most likely not above p.
    """
    drawn, n, p = _double(drawn), _double(n), _double(p)

    def evidences(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        k = _double(k)
        now, best = log_evidence(k, drawn, p), log_evidence(k + n - drawn, n, p)
        against = log_evidence(drawn - k, drawn, 1 - p)
        return now, tf.where(against >= -np.log(GIVE_UP), now, best)

    now, best = by_count(evidences, hits)
    certain = reject_by_evidence(now, alpha, correction)
    possible = reject_by_evidence(best, alpha, correction)
    return certain, tf.reduce_all(certain | ~possible)


def anytime_radius(
    hits: tf.Tensor, drawn: Any, n: Any, share: Any, alpha: Any, correction: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Lower bounds, and whether more draws would add little to the radii.

    A radius is Phi^-1(bound), at least 0. What draws up to n would add is estimated
    from the rate of hits so far where there is a radius, and from an upper bound on it
    where there is none yet.

    Args:
        hits: whole numbers of successes, any shape, all of one family.
        drawn: draws so far.
        n: draws at most.
        share: of the sum of radii to come, that is not worth more draws.
        alpha: error probability, of all together unless the correction is "none".
        correction: one of `CORRECTIONS`.

    Returns:
        Bounds of the shape of hits, which hold at any stopping time; and a scalar.
    """
    drawn, n = _double(drawn), _double(n)
    level = share_of_alpha(alpha, tf.size(hits), correction)

    def bounds(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        k = _double(k)
        both, levels = tf.stack([k, drawn - k]), tf.stack([level, GIVE_UP])[:, None]
        now, misses = tf.unstack(anytime_lower(both, drawn, levels))
        rate = tf.where(now > 0.5, k / drawn, 1 - misses)
        return now, anytime_lower(k + rate * (n - drawn), n, level)

    now, later = by_count(bounds, hits)
    gain = tf.reduce_sum(tf.nn.relu(unit_radius(later) - unit_radius(now)))
    total = tf.reduce_sum(unit_radius(later))
    return now, gain <= _double(share) * total


def unit_radius(p_lower: tf.Tensor) -> tf.Tensor:
    """The certified radius for noise of standard deviation 1, 0 up to p = 1/2."""
    return tf.math.ndtri(tf.maximum(p_lower, 0.5))


def least_draws(enough: Callable[[int], bool]) -> int:
    """The smallest n for which `enough`, a rising function of n, is true.

    Args:
        enough: of a number of draws.

    Returns:
        The number; 2^31 - 1, the most there can be, if that is not enough either.
    """
    low, high = 0, 2**31 - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


class Rule(NamedTuple):
    """When to stop drawing and what to conclude: one of the ways of `certify`.

    Numbers, or scalar tensors in a graph. With neither target_radius nor share, the
    number of draws is fixed.
    """

    sigma: Any
    n: Any
    alpha: Any
    correction: str
    target_radius: Any = None
    share: Any = None

    @property
    def anytime(self) -> bool:
        """Whether it may stop before n draws."""
        return self.target_radius is not None or self.share is not None

    @property
    def target(self) -> tf.Tensor:
        """The probability that belongs to the target radius."""
        ratio = _double(self.target_radius) / self.sigma
        return tf.math.erfc(-ratio / math.sqrt(2)) / 2

    def decide(
        self, hits: tf.Tensor, drawn: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Whether more draws are useless, p_lower and radius.

        Args:
            hits: how often the class in question was answered, of any shape.
            drawn: of how many draws.
        """
        hits, level = tf.convert_to_tensor(hits), (self.alpha, self.correction)
        if self.target_radius is not None:
            certain, stop = certain_above(hits, drawn, self.n, self.target, *level)
            certain = tf.cast(certain, tf.float64)
            return stop, certain * self.target, certain * _double(self.target_radius)
        if self.share is not None:
            p_lower, stop = anytime_radius(hits, drawn, self.n, self.share, *level)
            return stop, p_lower, self.sigma * unit_radius(p_lower)
        p_lower, radius = self._fixed(hits)
        return tf.constant(True), p_lower, self.sigma * radius

    def _fixed(self, hits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Bounds and radii for noise of standard deviation 1, after n draws."""
        pixels = hits.shape.num_elements()
        if pixels is None or tf.is_tensor(self.n) or self.n >= pixels:
            level = share_of_alpha(self.alpha, tf.size(hits), self.correction)
            p_lower = by_count(lambda k: clopper_pearson_lower(k, self.n, level), hits)
            return p_lower, unit_radius(p_lower)
        # So many pixels may have any count, and the next image's have the same bounds.
        with tf.init_scope():
            level = share_of_alpha(self.alpha, pixels, self.correction)
            tables = _tables(self.n, float(level))
        return tuple(tf.gather(table, hits) for table in tables)

    def enough(self, n: int, pixels: int) -> bool:
        """Whether n draws that all agree, for every pixel, would certify."""
        if self.anytime:
            p = 0.5 if self.target_radius is None else self.target
            alpha = self.alpha
            if self.target_radius is None or self.correction != "holm":
                alpha = share_of_alpha(alpha, pixels, self.correction)
            return bool(log_evidence(n, n, p) >= -np.log(alpha))
        alpha = share_of_alpha(self.alpha, pixels, self.correction)
        return n * math.log(2) > -np.log(alpha)


@functools.lru_cache(maxsize=8)
def _tables(n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The bound of every count from 0 to n, and its radius."""
    p_lower = clopper_pearson_lower(np.arange(n + 1), n, alpha)
    return p_lower.numpy(), unit_radius(p_lower).numpy()


def _double(value: Any) -> tf.Tensor:
    # `tf.cast` alone would take a Python float through float32.
    if tf.is_tensor(value):
        return tf.cast(value, tf.float64)
    return tf.constant(value, tf.float64)
