"""Fashion-MNIST: 70,000 photographs of clothes, in grey."""

from pathlib import Path
from typing import Any

from lps_tf.datasets import transformations
from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders import grey
from lps_tf.datasets.photographs import corrupted_data
from lps_tf.datasets.pipelines.pairing import crop_and_flip

SOURCE = "Fashion-MNIST"
_STAND_IN = "mnist5k_rts or mnist5k_linf"


def fashion_rts(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> PairData:
    """Pairs clothes, on a 42x42 canvas, with rotated, translated and scaled ones.

    59,000 images to train on, 1,000 to validate, 10,000 to test.

    Arguments are those of `mnist_rts`. After TensorFlow Datasets and the cache of
    `keras.datasets`, it is looked for in the folder of Debian's package
    dataset-fashion-mnist.

    Raises:
        FileNotFoundError: If Fashion-MNIST is not there: nothing downloads silently.
        ValueError: If a file of it is broken.
    """
    return transformations.rts_data(
        SOURCE,
        transformations.splits(_arrays(data_dir, download)),
        batch_size=batch_size,
        limited=limited,
        num_samples=num_samples,
        group_size=group_size,
        seed=seed,
    )


def fashion_linf(
    batch_size: int = 128,
    limited: int | None = None,
    num_samples: int = 1,
    group_size: int = 10,
    data_dir: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> PairData:
    """Pairs clothes with themselves under uniform noise in +-0.3, clipped to [0, 1].

    Arguments and errors are those of `fashion_rts`.
    """
    return transformations.linf_data(
        SOURCE,
        transformations.splits(_arrays(data_dir, download)),
        batch_size=batch_size,
        limited=limited,
        num_samples=num_samples,
        group_size=group_size,
        seed=seed,
    )


def fashion_corrupted(
    pairing: str = "from_original",
    batch_size: int = 128,
    augment: bool = True,
    data_dir: str | Path | None = None,
    download: bool = False,
    seed: int = 0,
) -> PairData:
    """Pairs clothes with the paper's twelve corruptions at severity 5, in grey.

    59,000 images to train on, 1,000 to validate, 10,000 to test; unseen are Gaussian
    blur, spatter and saturate, which leaves grey as it is but for its brightness. The
    first call corrupts all images, which takes three minutes and 940 MB.

    Args:
        pairing: How to pair; see `cifar10_corrupted`.
        batch_size: Size of training batches.
        augment: Whether to pad training images by 4, crop and flip, both images of a
            pair alike.
        data_dir: Where to read Fashion-MNIST, as in `fashion_rts`, and to keep its
            corruptions: a folder of TensorFlow Datasets, by default its own.
        download: Whether to download it if it is not there; as there.
        seed: Seed of the order and the pairs.

    Raises:
        FileNotFoundError: If Fashion-MNIST is not there: nothing downloads silently.
        ValueError: If a file of it is broken, or for another pairing.
    """
    from lps_tf.datasets.builders.corrupted import LpsCorruptedFashionMnist

    builders = {
        name: LpsCorruptedFashionMnist(config=name, data_dir=data_dir)
        for name in ("paper", "unseen")
    }
    if not all(builder.data_path.exists() for builder in builders.values()):
        _arrays(data_dir, download)  # the builder's own error would be TFDS's
    return corrupted_data(
        f"{SOURCE}, corrupted",
        builders,
        pairing,
        batch_size,
        crop_and_flip(4) if augment else None,
        seed,
    )


def _arrays(data_dir: Any, download: bool) -> tuple[grey.Arrays, ...]:
    return grey.splits("fashion_mnist", data_dir, _STAND_IN, download)
