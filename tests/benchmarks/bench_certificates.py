"""Certificates: samples, how many of them, and a bound for every pixel."""

from functools import partial
from pathlib import Path

from tests.benchmarks.bench_attacks import Draw, cifar10, in_keras, in_torch, mi
from tests.benchmarks.harness import Benchmark, Work, elsewhere

N, ALPHA = 1000, 1e-3
SIGMA = 0.5
HEIGHT, WIDTH = 125, 187


def hits():
    """How often each pixel of an image was predicted alike, in `N` samples."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.binomial(N, rng.beta(8, 1, (HEIGHT, WIDTH)))


def pixelwise() -> Work:
    """Radii of an image's pixels whose predictions have been counted.

    One image of many: what is the same for all of them has been done.
    """
    import tensorflow as tf

    from lps_tf.certification.stopping import FixedSamples, Prior

    counts = tf.constant(hits())
    rule, prior = FixedSamples(1.0, N, ALPHA, "bonferroni"), Prior(0, 0, 0.5)
    decide = tf.function(lambda k: rule.decide(k, N, prior).radius, autograph=False)
    return lambda: decide(counts).numpy()


def peer_pixelwise() -> Work:
    """SciPy's quantile of one pixel after the other, as the original code does."""
    import scipy.stats

    counts = hits().ravel()

    def work() -> None:
        level = ALPHA / counts.size
        for k in counts:
            p = scipy.stats.beta.ppf(level, k, N - k + 1) if k else 0.0
            scipy.stats.norm.ppf(max(p, 0.5))

    return work


def drawing(draw: Draw, images: int, batch: int, n0: int, n: int) -> Work:
    """Certificates of a few images with a fixed number of samples."""
    import lps_tf as lps

    pset, classifier, x, _ = in_keras(elsewhere(draw, images))
    smoothed = lps.SmoothedClassifier(classifier, pset, SIGMA, batch_size=batch)
    return lambda: smoothed.certify(x, n0=n0, n=n, alpha=0.5, verbose=False)


def peer_drawing(draw: Draw, images: int, batch: int, n0: int, n: int) -> Work:
    """The same as the original code draws: the whole generator for each sample."""
    import torch

    pset, classifier, x, _ = in_torch(draw(images))

    @torch.no_grad()
    def count(image, samples: int):
        counts = 0
        for start in range(0, samples, batch):
            xs = image.expand(min(batch, samples - start), *image.shape[1:])
            mean, logvar = pset.prior(xs)
            u = SIGMA * torch.randn_like(mean)
            drawn = pset.generator(xs, mean + torch.exp(logvar / 2) * u)
            logits = classifier(drawn)
            answers = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
            counts = counts + answers.sum(0)
        return counts

    def work() -> None:
        for image in x.split(1):
            count(image, n0)
            count(image, n)

    return work


def half_radius(anytime: bool) -> Work:
    """Half of each image's certified radius, at any time or with 10,000 samples.

    Of the demo's smoothed classifier, trained by `make demo`. Time goes as samples do.
    """
    import keras

    import lps_tf as lps

    models = Path("runs/demo/demo")
    if not models.exists():
        raise FileNotFoundError(f"There is no {models}: run `make demo` first.")
    smoothed = lps.SmoothedClassifier(
        keras.models.load_model(models / "robust" / "models" / "model.keras"),
        keras.models.load_model(models / "set" / "models" / "model.keras"),
        1.25,
    )
    images = next(iter(lps.datasets.mnist5k_rts().test.unbatch().batch(10)))[0].numpy()
    options = {"n": 10_000, "alpha": ALPHA, "verbose": False}
    radii = smoothed.certify(images, **options).radius
    certified = [i for i, radius in enumerate(radii) if radius]

    def at_any_time() -> None:
        for i in certified:
            goal = float(radii[i]) / 2
            found = smoothed.certify(
                images[i : i + 1], target_radius=goal, index=[i], **options
            )
            assert found.radius[0] == goal, "not certified"

    def fixed() -> None:
        smoothed.certify(images[certified], **options)

    return at_any_time if anytime else fixed


BENCHMARKS = [
    Benchmark(
        f"certify {what}",
        goal,
        "certificates/s",
        partial(drawing, *arguments),
        {"PyTorch": partial(peer_drawing, *arguments)},
    )
    for what, goal, arguments in (
        (
            "wide_resnet by cifar10_residual, 240 samples",
            1.5,
            (cifar10, 2, 120, 20, 100),
        ),
        ("unet by mi_unet, 62x93, 24 samples", 1.5, (mi, 1, 4, 4, 20)),
    )
]
BENCHMARKS += [
    Benchmark(
        "certify half the radius at any time, demo",
        10,
        "evaluations/s",
        partial(half_radius, anytime=True),
        {"fixed samples": partial(half_radius, anytime=False)},
    ),
    Benchmark(
        "certify, bounds of 125x187 pixels",
        1000,
        "images/s",
        pixelwise,
        {"pixel by pixel": peer_pixelwise},
    ),
]
