"""Corrupting a batch of images, against doing it image by image."""

from functools import partial

from tests.benchmarks.harness import Benchmark, Sides

SEVERITY = 5
IMAGES = 64


def corrupting(*names: str) -> Sides:
    """A batch through each of the corruptions; frost, which the peer lacks, aside."""
    import numpy as np

    from lps_tf import corruptions
    from tests.benchmarks import plain_corruptions

    chosen = names or [n for n in corruptions.CORRUPTIONS if n != "frost"]
    images = np.random.RandomState(0).randint(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    rng = np.random.default_rng(0)

    def ours() -> None:
        for name in chosen:
            corruptions.corrupt(images, name, SEVERITY)

    def peer() -> None:
        for name in chosen:
            for image in images:
                plain_corruptions.corrupt_one(image, name, SEVERITY, rng)

    return Sides(ours, peer)


BENCHMARKS = [
    Benchmark("corrupt, the 18 but frost, 64 images", 5, "batches/s", corrupting),
    Benchmark(
        "corrupt, glass blur, 64 images",
        50,
        "batches/s",
        partial(corrupting, "glass_blur"),
    ),
]
