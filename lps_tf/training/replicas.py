"""Sums over the replicas of a distribution strategy, inside of a step."""

import tensorflow as tf


def count() -> int:
    """Replicas that share a batch; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def total(value: tf.Tensor) -> tf.Tensor:
    """The sum over replicas of a value that has no gradient."""
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(value))


def mean(value: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """The mean over replicas of a mean over a number of examples, without gradient."""
    examples = tf.cast(examples, tf.float32)
    return total(value * examples) / total(examples)
