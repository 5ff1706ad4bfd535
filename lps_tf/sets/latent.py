"""The latent ball: norms, projection and sampling.

Latents are standardised, u = (z - prior mean) / prior standard deviation (paper,
section 2), and a norm is always taken over *all* latent dimensions of one example,
whatever their shape: the first axis is the batch, the rest is one vector.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lps_tf._internal.probability import tfd

# Norms are floored here before dividing: a zero gradient stays zero, not NaN.
_TINY = 1e-12


def norm(u: tf.Tensor) -> tf.Tensor:
    """Euclidean norm of each example.

    Args:
        u: Latents, (batch, ...).

    Returns:
        Norms, (batch,).
    """
    return tf.sqrt(tf.reduce_sum(tf.square(u), axis=list(range(1, u.shape.rank))))


def _scale(u: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return u * tf.reshape(factor, [-1] + [1] * (u.shape.rank - 1))


def unit(u: tf.Tensor) -> tf.Tensor:
    """Each example divided by its norm, however small or large; zero stays zero."""
    # Squares of a certain classifier's gradients would underflow.
    largest = tf.reduce_max(tf.abs(u), list(range(1, u.shape.rank)), keepdims=True)
    u = tf.math.divide_no_nan(u, largest)
    return _scale(u, 1.0 / tf.maximum(norm(u), _TINY))


def project(u: tf.Tensor, radius: float | tf.Tensor) -> tf.Tensor:
    """The nearest point of the ball ||u|| <= radius, for each example on its own."""
    return _scale(u, tf.minimum(1.0, radius / tf.maximum(norm(u), _TINY)))


def where(condition: tf.Tensor, u: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Selects per example: `u` where the condition (batch,) holds, else `other`."""
    condition = tf.reshape(condition, [-1] + [1] * (u.shape.rank - 1))
    return tf.where(condition, u, other)


def ascent_direction(
    objective: Callable[[tf.Tensor], tuple[tf.Tensor, Any]], u: tf.Tensor
) -> tuple[tf.Tensor, Any, tf.Tensor]:
    """The unit gradient of an objective, along which latent attacks step.

    Args:
        objective: Function of latents that returns one value per example, (batch,),
            and anything else.
        u: Latents, (batch, ...).

    Returns:
        The values at `u`, what else the objective gave, and each example's gradient
        divided by its norm.
    """
    value, rest, gradient = gradient_of(objective, u)
    return value, rest, unit(gradient)


def gradient_of(
    objective: Callable[[tf.Tensor], tuple[tf.Tensor, Any]], u: tf.Tensor
) -> tuple[tf.Tensor, Any, tf.Tensor]:
    """`ascent_direction`, with the gradient as it is."""
    # Only the latent is watched, so no gradient of a weight is computed.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(u)
        value, rest = objective(u)
        total = tf.reduce_sum(value)
    # A classifier may cut its gradient off: zero then, and nothing moves.
    gradient = tape.gradient(total, u, unconnected_gradients="zero")
    return value, rest, gradient


def next_key(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """A fresh key: the pair of int32 that TensorFlow's stateless functions take."""
    return replica_key(tf.cast(generator.next(), tf.int32))


def replica_key(key: tf.Tensor) -> tf.Tensor:
    """The key, made another one on each replica of a distribution strategy."""
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        key = fold_in(key, context.replica_id_in_sync_group)
    return key


class Keys:
    """Keys for what calls draw: made of those given, or one's own next ones.

    Args:
        seed: Seed by which two objects that are given the same keys differ.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    def __call__(self, given: tf.Tensor | None) -> tf.Tensor:
        """The key of a call, two int32."""
        if given is None:
            return next_key(self._generator)
        return fold_in(given, self._seed)

    def __deepcopy__(self, memo: dict) -> "Keys":
        copied = Keys(self._seed)  # a generator of Keras cannot be copied
        copied._generator.state.assign(self._generator.state)
        return copied


# Random bits, of a generator that is named, are the same with and without XLA.
# TensorFlow's own normals are not, and by default take XLA on a CPU ten times as long.


def split(key: tf.Tensor, number: int) -> tf.Tensor:
    """Independent keys, (number, 2), out of one."""
    return tf.random.split(key, number, alg="philox")


def fold_in(key: tf.Tensor, data: tf.Tensor | int) -> tf.Tensor:
    """The key of one numbered sample among many."""
    return tf.random.experimental.stateless_fold_in(key, data, alg="philox")


def uniform(shape: tf.Tensor | tuple, key: tf.Tensor) -> tf.Tensor:
    """Uniform samples above 0 and at most 1, float32 of 24 random bits."""
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    bits = tf.bitwise.bitwise_and(bits, 2**24 - 1)
    return (tf.cast(bits, tf.float32) + 0.5) * 2.0**-24


def whole_numbers(shape: tf.Tensor | tuple, below: int, key: tf.Tensor) -> tf.Tensor:
    """Uniform samples of 0 to below - 1, int32."""
    return tf.random.stateless_uniform(
        shape, key, minval=0, maxval=below, dtype=tf.int32, alg="philox"
    )


def standard_normal(shape: tf.Tensor | tuple, key: tf.Tensor) -> tf.Tensor:
    """Samples of N(0, I), float32, by Box and Muller's formula."""
    u = uniform(tf.concat([[2], shape], 0), key)
    return tf.sqrt(-2 * tf.math.log(u[0])) * tf.cos(2 * np.pi * u[1])


def draw(distribution: tfd.Independent, key: tf.Tensor) -> tf.Tensor:
    """A sample of a normal prior or posterior, (batch, latent_dim)."""
    mean = distribution.mean()
    return mean + distribution.stddev() * standard_normal(tf.shape(mean), key)


def sample_direction(shape: tf.Tensor | tuple, key: tf.Tensor) -> tf.Tensor:
    """Uniform directions: latents of norm 1, of the given shape (batch, ...)."""
    return unit(standard_normal(shape, key))


def sample_uniform_radius(
    shape: tf.Tensor | tuple, radius: float | tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """A uniform direction times a uniform fraction of the radius (attack starts)."""
    keys = split(key, 2)
    fraction = uniform((shape[0],), keys[1])  # (batch,)
    return _scale(sample_direction(shape, keys[0]), radius * fraction)


def sample_uniform_ball(
    shape: tf.Tensor | tuple, radius: float | tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Uniform samples of the ball, latents of the given shape (batch, latent_dim)."""
    keys = split(key, 2)
    # Of d dimensions, the part within a share s of the radius is s^d of the volume.
    share = uniform((shape[0],), keys[1]) ** (1.0 / shape[1])
    return project(_scale(sample_direction(shape, keys[0]), radius * share), radius)


def sample_truncated_normal(
    shape: tf.Tensor | tuple, radius: float | tf.Tensor, key: tf.Tensor
) -> tf.Tensor:
    """Samples of N(0, I) truncated to the ball: the probabilistic perturbation set.

    The direction is uniform and the norm follows a chi distribution truncated at
    `radius`, sampled through its inverse distribution function. That works where
    rejection cannot: 128 latents leave 1e-11 of their mass in a ball of radius 7.

    Args:
        shape: Shape (batch, latent_dim); latent_dim must be known.
        radius: Radius of the ball, a positive number; infinity does not truncate.
        key: Two int32.

    Returns:
        Latents of that shape, float32, each of norm at most `radius`.
    """
    keys = split(key, 2)
    probability = tf.cast(uniform((shape[0],), keys[1]), tf.float64)
    norms = truncated_chi_quantile(probability, shape[1], radius)  # (batch,)
    direction = sample_direction(shape, keys[0])  # (batch, latent_dim)
    # Rounding in the direction's norm must not carry a point out of the ball.
    return project(_scale(direction, tf.cast(norms, tf.float32)), radius)


def truncated_chi_quantile(
    probability: tf.Tensor, dim: int, radius: float | tf.Tensor, points: int = 4097
) -> tf.Tensor:
    """Inverse distribution function of a chi variable truncated at `radius`.

    The density s^(dim-1) exp(-s^2/2) is tabulated in logarithms relative to its
    largest value, on the part of [0, radius] that holds all but e^-40 of its height;
    nothing underflows at any dimension. The table's distribution function is within
    1e-5 of the true one.

    Args:
        probability: Values in [0, 1], any shape, float64.
        dim: Number of latent dimensions.
        radius: Radius at which the distribution is cut off.
        points: Size of the table.

    Returns:
        Norms, float64, of the shape of `probability`.
    """
    k = tf.cast(dim, tf.float64) - 1.0
    radius = tf.cast(radius, tf.float64)
    mode = tf.minimum(radius, tf.sqrt(k))
    # Below the mode the log density falls at least as fast as this parabola, and
    # above it as fast as -d^2/2: that bounds the part worth tabulating.
    slope = tf.math.divide_no_nan(k, mode) - mode
    curve = tf.math.divide_no_nan(k, tf.square(mode)) + 1.0
    low = mode - 80.0 / (slope + tf.sqrt(tf.square(slope) + 80.0 * curve))
    low = tf.maximum(low, tf.zeros_like(low))
    high = tf.minimum(radius, mode + np.sqrt(80.0))
    # Norms, log densities and distribution function of the table, each (points,).
    s = low + (high - low) * tf.linspace(tf.constant(0.0, tf.float64), 1.0, points)
    log_density = tf.math.xlogy(k, s) - tf.square(s) / 2
    density = tf.exp(log_density - tf.reduce_max(log_density))
    cdf = tf.cumsum(density[1:] + density[:-1])
    cdf = tf.concat([tf.zeros((1,), tf.float64), cdf / cdf[-1]], 0)

    # Linear interpolation between the two points around each probability.
    flat = tf.reshape(probability, (-1,))
    right = tf.clip_by_value(tf.searchsorted(cdf, flat, side="right"), 1, points - 1)
    c0, c1 = tf.gather(cdf, right - 1), tf.gather(cdf, right)
    s0, s1 = tf.gather(s, right - 1), tf.gather(s, right)
    weight = tf.clip_by_value(tf.math.divide_no_nan(flat - c0, c1 - c0), 0.0, 1.0)
    return tf.reshape(s0 + weight * (s1 - s0), tf.shape(probability))
