"""Corrupting images, against doing it image by image; what large images cost."""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial

from tests.benchmarks.harness import Benchmark, Work

SEVERITY = 5
#: What one image of 1200x1600 may cost, the first one of its size too: CPU time in that
#: of `blur`, and bytes.
BLURS, MEMORY = 8, 1e9
SMALL, LARGE = (64, 32, 32, 3), (1, 1200, 1600, 3)
GLASS = "glass_blur"
#: What the peer has not: the photographs of the original's frost.
WITHOUT = ("frost",)


def chosen(names: Sequence[str], without: Sequence[str] = WITHOUT) -> list[str]:
    """The names; without any, all corruptions but some."""
    from lps_tf.corruptions import CORRUPTIONS

    return list(names) or [name for name in CORRUPTIONS if name not in without]


def photographs(shape: Sequence[int]):
    """Images of noise."""
    import numpy as np

    return np.random.RandomState(0).randint(0, 256, shape, np.uint8)


def corrupting(shape: Sequence[int], *names: str, **options: Sequence[str]) -> Work:
    """Images through each of the corruptions."""
    from lps_tf import corruptions

    images = photographs(shape)

    def work() -> None:
        for name in chosen(names, **options):
            corruptions.corrupt(images, name, SEVERITY)

    return work


def one_by_one(shape: Sequence[int], *names: str, **options: Sequence[str]) -> Work:
    """The same, image by image."""
    import numpy as np

    from tests.benchmarks import plain_corruptions

    images, rng = photographs(shape), np.random.default_rng(0)

    def work() -> None:
        for name in chosen(names, **options):
            for image in images:
                plain_corruptions.corrupt_one(image, name, SEVERITY, rng)

    return work


def first_image(name: str, severity: int = SEVERITY) -> None:
    """Corrupts an image of 1200x1600 without what images before it have left."""
    from lps_tf import corruptions
    from lps_tf.corruptions import digital, frost, pixels

    for cached in (digital._pixelate_axis, frost.sheet, pixels.zoom_axis):
        cached.cache_clear()
    corruptions.corrupt(photographs(LARGE), name, severity)


def cpu_seconds(work: Callable, *arguments) -> float:
    """Seconds of the processor, whatever else it does."""
    start = time.process_time()
    work(*arguments)
    return time.process_time() - start


def blur() -> None:
    """Blurs an image of the same size by SciPy, which other costs are measured in."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    gaussian_filter(photographs(LARGE)[0].astype(np.float32), (10, 10, 0))


def cost(name: str, severity: int = SEVERITY) -> tuple[float, float]:
    """CPU seconds and most bytes of `first_image`, in two runs: counting takes time."""
    seconds = cpu_seconds(first_image, name, severity)
    tracemalloc.start()
    first_image(name, severity)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, memory


def benchmark(what: str, goal: float, *arguments, **options) -> Benchmark:
    """A row: images and names."""
    return Benchmark(
        f"corrupt, {what}",
        goal,
        "times/s",
        partial(corrupting, *arguments, **options),
        {"image by image": partial(one_by_one, *arguments, **options)},
    )


BENCHMARKS = [
    benchmark("the 18 but frost, 64 images of 32x32", 5, SMALL),
    benchmark("glass blur, 64 images of 32x32", 50, SMALL, GLASS),
    # The plain glass blur alone takes longer than the 17 others.
    benchmark(
        "the 17 but frost and glass blur, 1200x1600",
        1,
        LARGE,
        without=(*WITHOUT, GLASS),
    ),
]
