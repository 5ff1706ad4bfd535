"""A set whose response is known: perturb(x, u) = x + A u."""

import tensorflow as tf

from lps_tf.sets.protocol import Conditioned


class LinearSet:
    """The set of A (latent_dim, height, width, channels), and of a radius."""

    def __init__(self, matrix, radius):
        self.matrix = tf.constant(matrix, tf.float32)
        self.latent_dim, *shape = matrix.shape
        self.image_shape = tuple(shape)
        self.radius = radius

    def condition(self, x):
        zeros = tf.zeros((tf.shape(x)[0], self.latent_dim))
        return Conditioned(zeros, zeros + 1, x)

    def decode(self, conditioned, u):
        return conditioned.features + tf.tensordot(u, self.matrix, 1)

    def perturb(self, x, u):
        return self.decode(self.condition(x), u)

    def digest(self):
        return "linear"
