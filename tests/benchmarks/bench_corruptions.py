"""Corrupting a batch of images, against doing it image by image; large images."""

import time
import tracemalloc
from functools import partial

from tests.benchmarks.harness import Benchmark, Sides

SEVERITY = 5
IMAGES = 64
#: What one image of 1200x1600 may cost, the first one of its size too.
SECONDS, MEMORY = 2.0, 1e9


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


def first_image(name: str, severity: int = SEVERITY) -> None:
    """Corrupts an image of 1200x1600 without what images before it have left."""
    import numpy as np

    from lps_tf import corruptions
    from lps_tf.corruptions import digital, frost, pixels

    for cached in (digital._pixelate_axis, frost.sheet, pixels.zoom_axis):
        cached.cache_clear()
    image = np.random.RandomState(0).randint(0, 256, (1, 1200, 1600, 3), np.uint8)
    corruptions.corrupt(image, name, severity)


def cost(name: str, severity: int = SEVERITY) -> tuple[float, float]:
    """CPU seconds and most bytes of `first_image`, in two runs: counting takes time."""
    start = time.process_time()
    first_image(name, severity)
    seconds = time.process_time() - start
    tracemalloc.start()
    first_image(name, severity)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, memory


def large() -> Sides:
    """The slowest of all first images of 1200x1600, against what it may take."""
    from lps_tf import corruptions

    costs = {name: cost(name) for name in corruptions.CORRUPTIONS}
    greedy = [name for name, (_, memory) in costs.items() if memory > MEMORY]
    if greedy:
        raise MemoryError(f"{greedy} take more than {MEMORY:g} bytes at 1200x1600")
    slowest = max(costs, key=lambda name: costs[name][0])
    return Sides(partial(first_image, slowest), partial(time.sleep, SECONDS))


BENCHMARKS = [
    Benchmark("corrupt, the 18 but frost, 64 images", 5, "batches/s", corrupting),
    Benchmark(
        "corrupt, glass blur, 64 images",
        50,
        "batches/s",
        partial(corrupting, "glass_blur"),
    ),
    Benchmark("corrupt, the slowest of 19 at 1200x1600", 1, "images/s", large),
]
