"""Layers' inner loops in the forms that XLA runs fast on a CPU."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util


def on_cpu() -> bool:
    """Returns whether there is no GPU, so that these forms are of use."""
    return not tf.config.list_physical_devices("GPU")


def compiled_for_cpu() -> bool:
    """Returns whether what is being traced is for XLA, on a CPU.

    What runs without XLA has oneDNN's loops, which need no help.
    """
    if tf.executing_eagerly() or not on_cpu():
        return False
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)
