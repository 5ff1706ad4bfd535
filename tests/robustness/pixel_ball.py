"""A set whose latent is the change of the pixels, so that its worst point is known."""

import keras
import numpy as np
import tensorflow as tf

from lps_tf.sets.protocol import Conditioned

SIZE = (4, 4, 1)


class PixelBall:
    """S(x) = {x + u : ||u|| <= radius}, of 4x4 images, cut off at 0 and 1."""

    latent_dim, image_shape, radius = 16, SIZE, 0.5

    def condition(self, x):
        zeros = tf.zeros((tf.shape(x)[0], 16))
        return Conditioned(zeros, zeros + 1, tf.cast(x, tf.float32))

    def decode(self, conditioned, u):
        image = conditioned.features + tf.reshape(u, (-1, *SIZE))
        return tf.clip_by_value(image, 0.0, 1.0)

    def perturb(self, x, u):
        return self.decode(self.condition(x), u)

    def digest(self):
        return "pixel ball"


def linear(num_classes=3, activation=None, seed=0):
    """A linear classifier of 4x4 images."""
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense(num_classes, activation=activation)
    return keras.Sequential([keras.Input(SIZE), keras.layers.Flatten(), dense])


def pointwise(num_classes=3, seed=0):
    """A linear segmenter that looks at each pixel alone."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Conv2D(num_classes, 1)
    model = keras.Sequential([keras.Input(SIZE), layer])
    if num_classes == 1:
        layer.bias.assign([-0.5 * float(layer.kernel[0, 0, 0, 0])])
    return model


def images(n=12, seed=0):
    """Grey enough for small changes to stay in [0, 1]."""
    random = np.random.RandomState(seed)
    return random.uniform(0.3, 0.7, (n, *SIZE)).astype(np.float32)
