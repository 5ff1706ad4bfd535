"""Does data arrive faster than its network trains? Batches against training steps."""

import tempfile
from functools import partial
from itertools import chain, repeat

from tests.benchmarks.bench_training import our_step
from tests.benchmarks.harness import Benchmark, Work


def mnist5k(folder: str, batch_size: int):
    """Digits, perturbed as they come."""
    import lps_tf as lps

    return lps.datasets.mnist5k_rts(batch_size=batch_size)


def photos(folder: str, batch_size: int):
    """Photo patches with twelve corruptions each, off the disk."""
    import lps_tf as lps

    return lps.datasets.photos(
        batch_size=batch_size, patches=(100, 5, 5), data_dir=folder
    )


def scenes(folder: str, batch_size: int):
    """Rendered scenes under 25 lights, decoded as they come."""
    import lps_tf as lps

    return lps.datasets.scenes(
        batch_size=batch_size, train=24, val=1, test=1, data_dir=folder
    )


def folders(folder: str, batch_size: int):
    """Two folders of small PNG files, decoded as they come."""
    from pathlib import Path

    import numpy as np
    from PIL import Image

    import lps_tf as lps

    random = np.random.RandomState(0)
    for name in ("clean", "perturbed"):
        (Path(folder) / name).mkdir()
        for i in range(400):
            image = random.randint(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(image).save(Path(folder) / name / f"{i}.png")
    return lps.datasets.paired_folders(
        f"{folder}/clean", f"{folder}/perturbed", batch_size=batch_size
    )


def feeding(source, batch_size: int) -> Work:
    """A batch of training pairs."""
    folder = tempfile.mkdtemp()  # goes when the sides' processes have ended
    data = source(folder, batch_size)
    batches = chain.from_iterable(repeat(data.train_pairs))
    return lambda: next(batches)


BENCHMARKS = [
    Benchmark(
        f"feed {network} from {source.__name__}, batch {batch_size}",
        1,
        "batches/s",
        partial(feeding, source, batch_size),
        {"a training step": partial(our_step, network, image_shape, batch_size)},
    )
    for source, network, image_shape, batch_size in (
        (mnist5k, "mnist_stn", (42, 42, 1), 128),
        (photos, "cifar10_residual", (32, 32, 3), 32),
        (folders, "cifar10_residual", (32, 32, 3), 32),
        (scenes, "mi_unet", (62, 93, 3), 4),
    )
]
