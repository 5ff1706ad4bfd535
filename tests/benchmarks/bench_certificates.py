"""Certificates: samples, how many of them, and a bound for every pixel."""

from functools import partial
from pathlib import Path

from tests.benchmarks.bench_attacks import channels_last, cifar10, mi
from tests.benchmarks.harness import Benchmark, Sides

N, ALPHA = 1000, 1e-3
SIGMA = 0.5
HEIGHT, WIDTH = 125, 187
#: What the peer does of each image: the whole of it would take half a minute.
PART = 1 / 25


def pixelwise() -> Sides:
    """Radii of an image's pixels whose predictions have been counted.

    One image of many: what is the same for all of them has been done. The peer works
    SciPy's quantile out for one pixel after the other, as the original code does. Its
    unit of work is a part of an image, ours a whole one, so the goal is the same part
    of the 1,000 times that we want.
    """
    import numpy as np
    import scipy.stats
    import tensorflow as tf

    from lps_tf.certification.stopping import FixedSamples

    rng = np.random.default_rng(0)
    hits = rng.binomial(N, rng.beta(8, 1, (HEIGHT, WIDTH)))
    part = hits.ravel()[: int(hits.size * PART)]
    rule = FixedSamples(1.0, N, ALPHA, "bonferroni")
    decide = tf.function(lambda k: rule.decide(k, N).radius, autograph=False)
    counts = tf.constant(hits)

    def ours() -> None:
        decide(counts).numpy()

    def peer() -> None:
        level = ALPHA / hits.size
        for k in part:
            p = scipy.stats.beta.ppf(level, k, N - k + 1) if k else 0.0
            scipy.stats.norm.ppf(max(p, 0.5))

    return Sides(ours, peer)


def drawing(networks, images: int, batch: int, n0: int, n: int) -> Sides:
    """Certificates of a few images with a fixed number of samples.

    The peer draws as the original code does: image by image, the whole generator for
    each sample.
    """
    import numpy as np
    import torch

    import lps_tf as lps

    p = networks(images)
    x = channels_last(p.x)
    smoothed = lps.SmoothedClassifier(p.classifier, p.pset, SIGMA, batch_size=batch)
    options = {"n0": n0, "n": n, "alpha": 0.5, "verbose": False}

    def ours() -> None:
        smoothed.certify(x, **options)

    @torch.no_grad()
    def count(image, draws: int) -> np.ndarray:
        counts = 0
        for start in range(0, draws, batch):
            xs = image.expand(min(batch, draws - start), *image.shape[1:])
            mean, logvar = p.peer_pset.prior(xs)
            u = SIGMA * torch.randn_like(mean)
            images = p.peer_pset.generator(xs, mean + torch.exp(logvar / 2) * u)
            logits = p.peer_classifier(images)
            answers = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
            counts = counts + answers.sum(0)
        return counts

    def peer() -> None:
        for image in p.x.split(1):
            count(image, n0)
            count(image, n)

    return Sides(ours, peer)


def anytime() -> Sides:
    """Half of each image's certified radius, at any time, against 10,000 samples.

    Of the demo's smoothed classifier, trained by `make demo`. Time goes as samples do.
    """
    import keras

    import lps_tf as lps

    models = Path("runs/demo/demo")
    if not models.exists():
        raise FileNotFoundError(f"There is no {models}: run `make demo` first.")
    smoothed = lps.SmoothedClassifier(
        keras.models.load_model(models / "smoothing" / "models" / "model.keras"),
        keras.models.load_model(models / "set" / "models" / "model.keras"),
        0.5,
    )
    images = next(iter(lps.datasets.digits_rts().test.unbatch().batch(10)))[0]
    options = {"n": 10_000, "alpha": ALPHA, "verbose": False}
    fixed = smoothed.certify(images, **options)
    goals = [float(r) / 2 for r in fixed.radius]

    def ours() -> int:
        draws = 0
        for i, goal in enumerate(goals):
            if goal:
                found = smoothed.certify(
                    images[i : i + 1], target_radius=goal, index=[i], **options
                )
                assert found.radius[0] == goal, "not certified"
                draws += int(found.samples[0])
        return draws

    def peer() -> int:
        certified = [i for i, goal in enumerate(goals) if goal]
        return int(smoothed.certify(images.numpy()[certified], **options).samples.sum())

    print(f"draws: {ours()} at any time, {peer()} fixed")
    return Sides(ours, peer)


BENCHMARKS = [
    Benchmark(
        "certify wide_resnet by cifar10_residual, 240 samples",
        1.5,
        "certificates/s",
        partial(drawing, cifar10, 2, 120, 20, 100),
        needs_torch=True,
    ),
    Benchmark(
        "certify unet by mi_unet, 62x93, 24 samples",
        2,
        "certificates/s",
        partial(drawing, mi, 1, 4, 4, 20),
        needs_torch=True,
    ),
    Benchmark("certify half the radius at any time", 10, "images/s", anytime),
    Benchmark("certify, bounds of 125x187 pixels", 1000 * PART, "images/s", pixelwise),
]
