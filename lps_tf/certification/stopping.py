"""When to stop drawing noise for an image, and what to conclude: three rules."""

import functools
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lps_tf._internal import checks
from lps_tf.certification import evidence, statistics

#: Whether to stop is decided at multiples of this many samples alone, so that it does
#: not depend on how samples share batches.
STEP = 20

#: How many values the number that randomises the bounds of an image's pixels has.
_PARTS = 16


class Decision(NamedTuple):
    """What a rule concludes from the samples so far.

    Attributes:
        stop: Whether more samples are useless, a boolean scalar.
        p_lower: Lower confidence bounds on the probabilities, float64.
        radius: Certified radii of the same shape, 0 where nothing is certified.
    """

    stop: tf.Tensor
    p_lower: tf.Tensor
    radius: tf.Tensor


class Prior(NamedTuple):
    """What a rule may use of an image beside the samples of estimation.

    All of it is independent of them.

    Attributes:
        successes: How often the class in question was predicted in selection, of the
            shape of the successes in estimation.
        num_samples: Out of how many samples of selection.
        uniform: A number in (0, 1] of the image's own, a float64 scalar.
    """

    successes: Any
    num_samples: Any
    uniform: Any


class StoppingRule(Protocol):
    """One of the ways of `SmoothedClassifier.certify`.

    Numbers may be scalar tensors, so that another value is not another graph.
    """

    @property
    def n(self) -> Any:
        """The most samples that it takes."""
        ...

    def next_check(self, num_samples: Any) -> Any:
        """After how many samples to decide, if there are `num_samples`; n at most."""
        ...

    def decide(self, successes: tf.Tensor, num_samples: Any, prior: Prior) -> Decision:
        """What to conclude.

        Args:
            successes: How often the class in question was predicted, any shape; the
                pixels of an image are certified together.
            num_samples: Out of how many samples.
            prior: What is known of the image besides.
        """
        ...

    def enough(self, n: int, n0: int, pixels: int) -> bool:
        """Whether samples that all agree, for every pixel, would certify.

        Args:
            n: Number of samples of estimation.
            n0: Number of samples of selection.
            pixels: Number of pixels, 1 of a classifier.
        """
        ...


class FixedSamples(NamedTuple):
    """The paper's rule: n samples, and a bound of the kind of Clopper and Pearson's.

    It is randomised, by one number for all pixels of an image: see
    `statistics.randomised_clopper_pearson_lower`.

    Attributes:
        sigma: Standard deviation of the noise, the smallest of several.
        n: Number of samples.
        alpha: Probability that a certificate is wrong.
        correction: One of `statistics.CORRECTIONS`.
    """

    sigma: Any
    n: Any
    alpha: Any
    correction: str

    def next_check(self, num_samples: Any) -> Any:
        """At n alone: the bound holds for a number of samples fixed beforehand."""
        return self.n

    def decide(self, successes: tf.Tensor, num_samples: Any, prior: Prior) -> Decision:
        """See `StoppingRule`."""
        successes = tf.convert_to_tensor(successes)
        # Of more pixels than samples, the number is rounded up to a part of _PARTS:
        # the larger it is, the smaller is the bound.
        w = statistics.as_double(prior.uniform)
        many = tf.size(successes) > self.n
        w = tf.where(many, tf.math.ceil(_PARTS * w) / _PARTS, w)
        pixels = successes.shape.num_elements()
        if pixels is None or tf.is_tensor(self.n) or self.n >= pixels:
            tests = tf.size(successes)
            level = statistics.share_of_alpha(self.alpha, tests, self.correction)
            p_lower = statistics.by_count(
                lambda k: statistics.randomised_clopper_pearson_lower(
                    k, self.n, level, w
                ),
                successes,
            )
            radius = statistics.unit_radius(p_lower)
        else:
            # So many pixels may have any count, and those of the next image, too.
            with tf.init_scope():
                level = statistics.share_of_alpha(self.alpha, pixels, self.correction)
                tables = _tables(self.n, float(level))
            row = tf.cast(_PARTS * w, tf.int32) - 1
            p_lower, radius = (tf.gather(table[row], successes) for table in tables)
        return Decision(tf.constant(True), p_lower, self.sigma * radius)

    def enough(self, n: int, n0: int, pixels: int) -> bool:
        """See `StoppingRule`: n agreeing samples have probability 2^-n at p = 1/2.

        Of fewer, the randomised bound may certify by luck.
        """
        alpha = statistics.share_of_alpha(self.alpha, pixels, self.correction)
        return n * math.log(2) > -np.log(alpha)


class TargetRadius(NamedTuple):
    """Yes or no: stops once the class is certain up to a radius, or hopeless.

    The samples of selection say which probabilities to look for: see
    `evidence.informed_log_evidence`.

    Attributes:
        sigma: Standard deviation of the noise, the smallest of several.
        n: The most samples.
        alpha: Probability that a certificate is wrong.
        correction: One of `statistics.CORRECTIONS`.
        target_radius: Radius in the standardised latent.
    """

    sigma: Any
    n: Any
    alpha: Any
    correction: str
    target_radius: Any

    @property
    def target(self) -> tf.Tensor:
        """The probability that belongs to the target radius: Phi(radius / sigma)."""
        ratio = statistics.as_double(self.target_radius) / self.sigma
        return tf.math.erfc(-ratio / math.sqrt(2)) / 2

    def next_check(self, num_samples: Any) -> Any:
        """See `StoppingRule`."""
        return _growing(num_samples, self.n)

    def decide(self, successes: tf.Tensor, num_samples: Any, prior: Prior) -> Decision:
        """See `StoppingRule`; radii are the target radius or 0."""
        certain, stop = evidence.certain_above(
            tf.convert_to_tensor(successes),
            num_samples,
            self.n,
            self.target,
            self.alpha,
            self.correction,
            prior_successes=prior.successes,
            prior_n=prior.num_samples,
        )
        certain = tf.cast(certain, tf.float64)
        radius = certain * statistics.as_double(self.target_radius)
        return Decision(stop, certain * self.target, radius)

    def enough(self, n: int, n0: int, pixels: int) -> bool:
        """See `StoppingRule`."""
        # Holm's correction needs no more of equal evidence than a single test.
        tests = 1 if self.correction == "holm" else pixels
        level = statistics.share_of_alpha(self.alpha, tests, self.correction)
        log_e = evidence.informed_log_evidence(n, n, self.target, n0, n0)
        return bool(log_e >= -np.log(level))


class RelativeGain(NamedTuple):
    """Radii: stops once more samples would add less than a share of the radius.

    Attributes:
        sigma: Standard deviation of the noise, the smallest of several.
        n: The most samples.
        alpha: Probability that a certificate is wrong.
        correction: One of `statistics.CORRECTIONS`.
        share: Share of the radius (of a segmenter: of the sum of its radii).
    """

    sigma: Any
    n: Any
    alpha: Any
    correction: str
    share: Any

    def next_check(self, num_samples: Any) -> Any:
        """See `StoppingRule`."""
        return _growing(num_samples, self.n)

    def decide(self, successes: tf.Tensor, num_samples: Any, prior: Prior) -> Decision:
        """See `StoppingRule`."""
        p_lower, stop = evidence.anytime_radius(
            tf.convert_to_tensor(successes),
            num_samples,
            self.n,
            self.share,
            self.alpha,
            self.correction,
        )
        return Decision(stop, p_lower, self.sigma * statistics.unit_radius(p_lower))

    def enough(self, n: int, n0: int, pixels: int) -> bool:
        """See `StoppingRule`."""
        level = statistics.share_of_alpha(self.alpha, pixels, self.correction)
        return bool(evidence.log_evidence(n, n, 0.5) >= -np.log(level))


def rule_of(
    sigma: float,
    n: int,
    alpha: float,
    correction: str,
    target_radius: float | None = None,
    share: float | None = None,
) -> FixedSamples | TargetRadius | RelativeGain:
    """The rule of one of the three ways of `SmoothedClassifier.certify`, checked.

    Raises:
        ValueError: For a number out of its range, or both target_radius and share.
    """
    n, alpha = checks.count("n", n), checks.probability("alpha", alpha)
    if target_radius is not None and share is not None:
        raise ValueError(
            "Either `target_radius` or `share` can be given, not both. Received: "
            f"target_radius={target_radius}, share={share}"
        )
    # As tensors: another value is not another graph.
    if target_radius is not None:
        target_radius = checks.positive("target_radius", target_radius)
        target = tf.constant(target_radius, tf.float64)
        return TargetRadius(sigma, n, alpha, correction, target)
    if share is not None:
        gain = tf.constant(checks.probability("share", share), tf.float64)
        return RelativeGain(sigma, n, alpha, correction, gain)
    return FixedSamples(sigma, n, alpha, correction)


def _growing(num_samples: Any, n: Any) -> Any:
    """The next check of the rules that may stop early; the gaps grow by an eighth."""
    return tf.minimum(num_samples + STEP * (2 + num_samples // (8 * STEP)), n)


@functools.lru_cache(maxsize=8)
def _tables(n: int, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Bounds, and radii for noise of sigma 1, of every number and count.

    Each is (_PARTS, n + 1), float64.
    """
    numbers = np.arange(1, _PARTS + 1)[:, None, None] / _PARTS
    p_lower = statistics.randomised_clopper_pearson_lower(
        np.arange(n + 1)[None], n, alpha, numbers
    )
    return p_lower, statistics.unit_radius(p_lower)
