"""When to stop drawing noise for an image, and what to conclude: three rules."""

import functools
import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from lps_tf.certification import statistics

#: Whether to stop is decided at multiples of this many samples alone, so that it does
#: not depend on how samples share batches.
STEP = 20


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

    def decide(self, successes: tf.Tensor, num_samples: Any) -> Decision:
        """What to conclude.

        Args:
            successes: How often the class in question was predicted, any shape; the
                pixels of an image are certified together.
            num_samples: Out of how many samples.
        """
        ...

    def enough(self, n: int, pixels: int) -> bool:
        """Whether n samples that all agree, for every pixel, would certify."""
        ...


class FixedSamples(NamedTuple):
    """The paper's rule: n samples, and the bound of Clopper and Pearson.

    Attributes:
        sigma: Standard deviation of the noise.
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

    def decide(self, successes: tf.Tensor, num_samples: Any) -> Decision:
        """See `StoppingRule`."""
        successes = tf.convert_to_tensor(successes)
        pixels = successes.shape.num_elements()
        if pixels is None or tf.is_tensor(self.n) or self.n >= pixels:
            tests = tf.size(successes)
            level = statistics.share_of_alpha(self.alpha, tests, self.correction)
            p_lower = statistics.by_count(
                lambda k: statistics.clopper_pearson_lower(k, self.n, level), successes
            )
            radius = statistics.unit_radius(p_lower)
        else:
            # So many pixels may have any count, and those of the next image, too.
            with tf.init_scope():
                level = statistics.share_of_alpha(self.alpha, pixels, self.correction)
                tables = _tables(self.n, float(level))
            p_lower, radius = (tf.gather(table, successes) for table in tables)
        return Decision(tf.constant(True), p_lower, self.sigma * radius)

    def enough(self, n: int, pixels: int) -> bool:
        """See `StoppingRule`: n agreeing samples have probability 2^-n at p = 1/2."""
        alpha = statistics.share_of_alpha(self.alpha, pixels, self.correction)
        return n * math.log(2) > -np.log(alpha)


class TargetRadius(NamedTuple):
    """Yes or no: stops once the class is certain up to a radius, or hopeless.

    Attributes:
        sigma: Standard deviation of the noise.
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

    def decide(self, successes: tf.Tensor, num_samples: Any) -> Decision:
        """See `StoppingRule`; radii are the target radius or 0."""
        certain, stop = statistics.certain_above(
            tf.convert_to_tensor(successes),
            num_samples,
            self.n,
            self.target,
            self.alpha,
            self.correction,
        )
        certain = tf.cast(certain, tf.float64)
        radius = certain * statistics.as_double(self.target_radius)
        return Decision(stop, certain * self.target, radius)

    def enough(self, n: int, pixels: int) -> bool:
        """See `StoppingRule`."""
        # Holm's correction needs no more of equal evidence than a single test.
        tests = 1 if self.correction == "holm" else pixels
        level = statistics.share_of_alpha(self.alpha, tests, self.correction)
        return bool(statistics.log_evidence(n, n, self.target) >= -np.log(level))


class RelativeGain(NamedTuple):
    """Radii: stops once more samples would add less than a share of the radius.

    Attributes:
        sigma: Standard deviation of the noise.
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

    def decide(self, successes: tf.Tensor, num_samples: Any) -> Decision:
        """See `StoppingRule`."""
        p_lower, stop = statistics.anytime_radius(
            tf.convert_to_tensor(successes),
            num_samples,
            self.n,
            self.share,
            self.alpha,
            self.correction,
        )
        return Decision(stop, p_lower, self.sigma * statistics.unit_radius(p_lower))

    def enough(self, n: int, pixels: int) -> bool:
        """See `StoppingRule`."""
        level = statistics.share_of_alpha(self.alpha, pixels, self.correction)
        return bool(statistics.log_evidence(n, n, 0.5) >= -np.log(level))


def _growing(num_samples: Any, n: Any) -> Any:
    """The next check of the rules that may stop early; the gaps grow by an eighth."""
    return tf.minimum(num_samples + STEP * (2 + num_samples // (8 * STEP)), n)


@functools.lru_cache(maxsize=8)
def _tables(n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The bound of every count from 0 to n, and its radius for noise of sigma 1."""
    p_lower = statistics.clopper_pearson_lower(np.arange(n + 1), n, alpha)
    return p_lower.numpy(), statistics.unit_radius(p_lower).numpy()
