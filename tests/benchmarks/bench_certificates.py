"""Certificates of segmentations: a bound for every pixel."""

from tests.benchmarks.harness import Benchmark, Sides

N, ALPHA = 1000, 1e-3
HEIGHT, WIDTH = 125, 187
#: What the peer does of each image: the whole of it would take half a minute.
PART = 1 / 25


def pixelwise() -> Sides:
    """Radii of an image's pixels whose answers have been counted.

    One image of many: what is the same for all of them has been done. The peer works
    SciPy's quantile out for one pixel after the other, as the original code does. Its
    unit of work is a part of an image, ours a whole one, so the goal is the same part
    of the 1,000 times that we want.
    """
    import numpy as np
    import scipy.stats
    import tensorflow as tf

    from lps_tf.bounds import Rule

    rng = np.random.default_rng(0)
    hits = rng.binomial(N, rng.beta(8, 1, (HEIGHT, WIDTH)))
    part = hits.ravel()[: int(hits.size * PART)]
    rule = Rule(1.0, N, ALPHA, "bonferroni")
    decide = tf.function(lambda k: rule.decide(k, N)[2], autograph=False)
    counts = tf.constant(hits)

    def ours() -> None:
        decide(counts).numpy()

    def peer() -> None:
        level = ALPHA / hits.size
        for k in part:
            p = scipy.stats.beta.ppf(level, k, N - k + 1) if k else 0.0
            scipy.stats.norm.ppf(max(p, 0.5))

    return Sides(ours, peer)


BENCHMARKS = [
    Benchmark("certify, bounds of 125x187 pixels", 1000 * PART, "images/s", pixelwise),
]
