"""Scenes under 25 lights: photographs that need a download, and rendered ones.

Both are read by the same code and give the same structures. x is a scene under light
0, its perturbed versions are the scene under the 24 others, its label map says what
material each pixel shows. Images are kept as JPEG or PNG until they are drawn.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from lps_tf.datasets import rendering
from lps_tf.datasets.base import PairData
from lps_tf.datasets.builders.prepared import missing
from lps_tf.datasets.pipelines.pairing import crop_and_flip
from lps_tf.datasets.pipelines.stored import Groups, check_pairing, grouped_data
from lps_tf.datasets.rendering.materials import MATERIALS

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def multi_illumination(
    mip: int = 5,
    pairing: str = "with_original",
    batch_size: int = 64,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    augment: bool = True,
    seed: int = 0,
) -> PairData:
    """Multi-Illumination: 1,015 indoor scenes under 25 lights (Murmann et al. 2019).

    960 scenes to train on, 25 to validate on, 30 of another building to report on; 36
    classes of material. The first call makes images of the given size of the unpacked
    archives and stores them in `data_dir`.

    Args:
        mip: Size of the images: 5 is 125x187, 4 is 250x375, 3 is 500x750.
        pairing: "with_original" pairs two different lights of all, "from_original"
            light 0 and another, "among_perturbed" two of lights 1 to 24.
        batch_size: Size of training batches.
        data_dir: Folder of TFDS, by default TFDS's own.
        manual_dir: The unpacked archives, default `data_dir`/downloads/manual.
        augment: Whether to crop and flip training images.
        seed: Seed of everything random.

    Raises:
        FileNotFoundError: If the data set is neither prepared nor there to prepare.
        ValueError: For another mip or pairing, or if a file of a scene is missing or
            broken.
    """
    from lps_tf.datasets.builders import multi_illumination as builders

    if mip not in builders.SIZES:
        raise ValueError(
            f"`mip` must be one of {sorted(builders.SIZES)}. Received: mip={mip}"
        )
    check_pairing(pairing)
    builder = builders.MultiIllumination(config=f"mip{mip}", data_dir=data_dir)
    manual = builder.data_path.parents[2] / "downloads" / "manual"
    manual = Path(manual_dir or manual).expanduser()
    if not builder.data_path.exists() and not builders.scene_folders(manual):
        raise missing(
            "Multi-Illumination",
            f"{builder.data_path} and in the manual directory, {manual}",
            builders.INSTRUCTIONS,
            "scenes",
        )
    return _lighting_data(
        builder,
        f"Multi-Illumination mip {mip}",
        builders.CLASSES,
        manual,
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
    )


def scenes(
    height: int = 62,
    width: int = 93,
    train: int = 300,
    val: int = 25,
    test: int = 30,
    pairing: str = "with_original",
    batch_size: int = 4,
    augment: bool = True,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> PairData:
    """Rendered scenes under 25 lights: no download needed.

    The classes are the materials of `lps_tf.datasets.materials`. The first call
    renders and stores the scenes, about ten a second at 62x93.

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
    return _lighting_data(
        builders.builder(config, data_dir),
        f"{rendering.SOURCE}, {config.height}x{config.width}",
        MATERIALS,
        None,
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
    )


def _lighting_data(
    builder: "tfds.core.DatasetBuilder",
    name: str,
    class_names: tuple[str, ...],
    manual_dir: Path | None,
    *,
    pairing: str,
    batch_size: int,
    augment: bool,
    seed: int,
) -> PairData:
    """Prepares what is not prepared yet, and builds the pipelines."""
    import tensorflow_datasets as tfds

    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=manual_dir, try_download_gcs=False
        )
    )
    lights, height, width, channels = builder.info.features["images"].shape

    def decode(image: tf.Tensor) -> tf.Tensor:
        # It reads PNG as well. TensorFlow's default for JPEG is off by a level or two.
        image = tf.io.decode_jpeg(image, channels, dct_method="INTEGER_ACCURATE")
        image = tf.ensure_shape(image, (height, width, channels))
        return tf.cast(image, tf.float32) / 255

    def decode_map(labels: tf.Tensor) -> tf.Tensor:
        labels = tf.ensure_shape(tf.io.decode_png(labels, 1), (height, width, 1))
        return tf.cast(labels, tf.int64)

    data = grouped_data(
        name,
        len(class_names),
        Groups(
            *(_groups(builder, s) for s in ("train", "validation", "test")),
            decode,
            decode_map,
        ),
        pairing=pairing,
        batch_size=batch_size,
        # The paper pads by 10, 20 and 40 pixels at mip 5, 4 and 3.
        augment=crop_and_flip(round(0.08 * height), mode="REFLECT")
        if augment
        else None,
        seed=seed,
        perturbations=tuple(f"light {i}" for i in range(1, lights)),
    )
    return replace(data, class_names=tuple(class_names))


def _groups(builder: "tfds.core.DatasetBuilder", split: str) -> tf.data.Dataset:
    """Groups (x, x_perturbed, y) of a split, encoded, always in the same order."""
    import tensorflow_datasets as tfds

    class Encoded(tfds.decode.SkipDecoding):
        """`SkipDecoding` without its loop over a sequence, which does nothing."""

        def decode_batch_example(self, serialized_example: tf.Tensor) -> tf.Tensor:
            return serialized_example

    data = builder.as_dataset(
        split=split,
        decoders={"images": Encoded(), "materials": Encoded()},
        # Each of a PairData's pipelines would fill a cache of its own.
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return data.map(lambda s: (s["images"][0], s["images"][1:], s["materials"]))
