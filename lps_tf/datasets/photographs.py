"""Images and their stored corruptions, whatever their source."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tensorflow as tf

from lps_tf.corruptions import OUT_OF_DISTRIBUTION, PAPER
from lps_tf.datasets.base import PairData
from lps_tf.datasets.pipelines.stored import Groups, grouped_data


def decode(image: tf.Tensor) -> tf.Tensor:
    """Turns bytes into floats in [0, 1]."""
    return tf.cast(image, tf.float32) / 255


def corrupted_data(
    name: str,
    builders: dict[str, Any],
    pairing: str,
    batch_size: int,
    augment: Callable[..., tuple] | None,
    seed: int,
    beam_options: Any = None,
) -> PairData:
    """Prepares what is not prepared yet, and builds the pipelines.

    Args:
        name: Name of the source, shown in every report.
        builders: TFDS builders of "paper" and "unseen" corruptions.
        pairing: How to pair; see `cifar10_corrupted`.
        batch_size: Size of training batches.
        augment: What is done to training images, both of a pair alike; None for
            nothing.
        seed: Seed of the order and the pairs.
        beam_options: Apache Beam's `PipelineOptions`, for builders that can do with
            it; None prepares in this process.
    """
    import tensorflow_datasets as tfds

    # Each of a PairData's pipelines would fill a cache of its own. Files are read one
    # after the other: two builders, of as many images in fewer files, agree in order.
    config = tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1)

    def groups(which: str, split: str) -> tf.data.Dataset:
        data = builders[which].as_dataset(split=split, read_config=config)
        return data.map(lambda d: (d["image"], d["corrupted"], d["label"]))

    for builder in builders.values():  # those that are prepared stay as they are
        if beam_options is not None:
            builder.on_beam = True
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                try_download_gcs=False, beam_options=beam_options
            )
        )
    class_names = tuple(builders["paper"].info.features["label"].names)
    data = grouped_data(
        name,
        len(class_names),
        Groups(
            groups("paper", "train"),
            groups("paper", "validation"),
            groups("paper", "test"),
            decode,
        ),
        pairing=pairing,
        batch_size=batch_size,
        augment=augment,
        seed=seed,
        perturbations=PAPER,
        unseen=groups("unseen", "test"),
        unseen_perturbations=OUT_OF_DISTRIBUTION,
    )
    return replace(data, class_names=class_names)
