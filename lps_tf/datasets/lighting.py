"""Scenes under 25 lights: photographed and rendered ones alike.

x is a scene under light 0, its perturbed versions are the scene under the 24 others,
its label map says what material each pixel shows. Images are kept as JPEG or PNG until
they are drawn.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf

from lps_tf.datasets.base import PairData
from lps_tf.datasets.pipelines.pairing import crop_and_flip
from lps_tf.datasets.pipelines.stored import Groups, grouped_data

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def lighting_data(
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
    """Prepares what is not prepared yet, and builds the pipelines.

    Args:
        builder: TFDS builder of `scene_features`.
        name: Name of the source, shown in every report.
        class_names: Names of the materials.
        manual_dir: Folder of what was downloaded by hand, None if nothing was.
        pairing: How to pair lights; see `multi_illumination`.
        batch_size: Size of training batches.
        augment: Whether to crop and flip training images.
        seed: Seed of everything random.
    """
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
            _groups(builder, "train"),
            _groups(builder, "validation"),
            _groups(builder, "test"),
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
