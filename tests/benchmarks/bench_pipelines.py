"""Does data arrive faster than its network trains? Batches against training steps."""

import atexit
import shutil
import tempfile
from functools import partial
from itertools import chain, repeat

from tests.benchmarks.harness import Benchmark, Sides


def digits(folder: str, batch_size: int):
    """Digits, perturbed as they come."""
    import lps_tf as lps

    return lps.datasets.digits_rts(batch_size=batch_size)


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


def feeding(source, network: str, batch_size: int) -> Sides:
    """A batch of training pairs, against a step of the network on such a batch."""
    from tests.benchmarks.bench_training import our_step

    folder = tempfile.mkdtemp()  # read until the end of this process
    atexit.register(shutil.rmtree, folder)
    data = source(folder, batch_size)
    x, x_perturbed = next(iter(data.train_pairs))
    batches = chain.from_iterable(repeat(data.train_pairs))
    return Sides(
        ours=lambda: next(batches),
        peer=our_step(network, x.numpy(), x_perturbed.numpy()),
    )


BENCHMARKS = [
    Benchmark(
        f"feed {network} from {source.__name__}, batch {batch_size}",
        1,
        "batches/s",
        partial(feeding, source, network, batch_size),
    )
    for source, network, batch_size in (
        (digits, "mnist_stn", 128),
        (photos, "cifar10_residual", 32),
        (folders, "cifar10_residual", 32),
        (scenes, "mi_unet", 4),
    )
]
