"""Rendered scenes under 25 lights: no download needed."""

from pathlib import Path

from lps_tf.datasets import rendering
from lps_tf.datasets.base import PairData
from lps_tf.datasets.lighting import lighting_data
from lps_tf.datasets.pipelines.stored import check_pairing
from lps_tf.datasets.rendering.materials import MATERIALS


def scenes(
    height: int = 62,
    width: int = 93,
    *,
    train: int = 300,
    val: int = 25,
    test: int = 30,
    pairing: str = "with_original",
    batch_size: int = 4,
    augment: bool = True,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Pairs lights of rendered scenes, 25 of each: no download needed.

    The classes are the materials of `lps_tf.datasets.rendering`. The first call renders
    and stores the scenes, about ten a second at 62x93.

    Args:
        height: Rows of the images, at least 16.
        width: Columns of the images, at least 16.
        train: Number of scenes to train on.
        val: Number of scenes to validate and calibrate on.
        test: Number of scenes to report on.
        pairing: How to pair lights; see `multi_illumination`.
        batch_size: Size of training batches.
        augment: Whether to crop and flip training images.
        data_dir: Folder of TFDS, by default TFDS's own.
        seed: Seed of everything random, the scenes too.

    Raises:
        ValueError: For an unknown pairing, or a number that is too small.
    """
    from lps_tf.datasets.builders import scenes as builders

    check_pairing(pairing)
    config = builders.SceneConfig(
        height=height, width=width, train=train, val=val, test=test, seed=seed
    )
    return lighting_data(
        builders.builder(config, data_dir),
        f"{rendering.SOURCE}, {config.height}x{config.width}",
        MATERIALS,
        None,
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
    )
