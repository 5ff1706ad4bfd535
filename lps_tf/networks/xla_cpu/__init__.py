"""Layers' inner loops in the forms that XLA runs fast on a CPU."""

import tensorflow as tf


def on_cpu() -> bool:
    """Returns whether there is no GPU, so that these forms are of use."""
    return not tf.config.list_physical_devices("GPU")
