"""A set and classifiers in which everything about certificates is known."""

import keras
import numpy as np
import tensorflow as tf

from lps_tf.sets.protocol import Conditioned


class Shift(tf.Module):
    """Images of a row of pixels, to which the latents are added."""

    def __init__(self, dim, radius=1.0):
        super().__init__()
        self.latent_dim, self.image_shape, self.radius = dim, (1, dim, 1), radius

    def condition(self, x):
        zeros = tf.zeros((tf.shape(x)[0], self.latent_dim))
        return Conditioned(zeros, zeros + 1.0, tf.cast(x, tf.float32))

    def decode(self, conditioned, u):
        return conditioned.features + u[:, None, :, None]

    def perturb(self, x, u):
        return self.decode(self.condition(x), tf.convert_to_tensor(u, tf.float32))

    def encode(self, x, x_perturbed):
        return tf.convert_to_tensor(x_perturbed - x)[:, 0, :, 0]

    def digest(self):
        return f"shift {self.latent_dim}"


def half_space(weights, limit):
    """Answers 0 where weights * pixels is at most the limit, 1 beyond."""
    weights = np.asarray(weights, np.float32)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
    model.build((None, 1, len(weights), 1))
    kernel = np.stack([-weights, weights], 1)
    model.set_weights([kernel, np.array([limit, -limit], np.float32)])
    return model
