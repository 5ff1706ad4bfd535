"""Attacks on one example at a time in plain NumPy, to hold ours against.

Beside them a set and a classifier small enough to be written out with their gradients.
"""

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from lps_tf.sets.protocol import Conditioned

DIM, CLASSES = 3, 4


def _weights(seed, *shapes):
    random = np.random.RandomState(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


PRIOR, DECODER = _weights(0, (16, DIM), (DIM, 16))
LAYERS = _weights(2, (16, 8), (8,), (8, CLASSES), (CLASSES,))


class Prior(keras.layers.Layer):
    def call(self, x, training=False):
        flat = tf.reshape(x[..., :1], (-1, 16))
        return tf.tanh(flat @ PRIOR / 4), flat @ PRIOR / 10


class Generator(keras.layers.Layer):
    def condition(self, x, training=False):
        return {"pixels": [4 * x - 2]}

    def decode(self, features, z, training=False):
        moved = tf.reshape(z @ DECODER / 2, (-1, 4, 4, 1))
        return tf.sigmoid(features["pixels"][0] + moved)

    def call(self, inputs):
        return self.decode(self.condition(inputs[0]), inputs[1])


def small_set():
    pset = lps.PerturbationSet(Prior(), Prior(), Generator())
    pset.build((None, 4, 4, 1))
    return pset


def small_classifier():
    layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dense(CLASSES)]
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), *layers])
    model.set_weights(LAYERS)
    return model


def logits_of(image):
    weights, bias, out, out_bias = LAYERS
    hidden = np.tanh(image @ weights + bias)
    return hidden @ out + out_bias, hidden


def cross_entropy(logits, y):
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[y]


def clean(x, y):
    """Cross-entropy of an image as it is, and whether it is misclassified."""
    logits, _ = logits_of(x.reshape(16).astype(np.float64))
    return cross_entropy(logits, y), logits.argmax() != y


def evaluate(x, y, kind, u):
    """Objective, its gradient, cross-entropy, wrong: of one example, in float64."""
    x = x.reshape(16).astype(np.float64)
    mean, std = np.tanh(x @ PRIOR / 4), np.exp(x @ PRIOR / 20)
    image = 1 / (1 + np.exp(-(4 * x - 2 + (mean + std * u) @ DECODER / 2)))
    logits, hidden = logits_of(image)
    loss, one_hot, order = (
        cross_entropy(logits, y),
        np.eye(CLASSES),
        np.argsort(-logits),
    )
    if kind == "cross-entropy":
        value, slope = loss, np.exp(logits - logits[y] - loss) - one_hot[y]
    else:
        other = order[order != y][0]
        margin, spread = logits[other] - logits[y], logits[order[0]] - logits[order[2]]
        value = margin / spread
        slope = (one_hot[other] - one_hot[y]) / spread
        slope -= (one_hot[order[0]] - one_hot[order[2]]) * margin / spread**2
    weights, _, out, _ = LAYERS
    slope = weights @ ((out @ slope) * (1 - hidden**2)) * image * (1 - image)
    return value, std * (DECODER @ slope) / 2, loss, order[0] != y


def project(u, radius):
    return u * min(1, radius / max(np.linalg.norm(u), 1e-30))


def unit(gradient):
    return gradient / max(np.linalg.norm(gradient), 1e-30)


def start(seed, index, run, radius, dim):
    """A uniform direction at a uniform fraction of the radius, the same for ever."""
    key, counter = np.array([seed, index], np.uint64), [0, 0, 0, run]
    random = np.random.Generator(np.random.Philox(key=key, counter=counter))
    return unit(random.standard_normal(dim)) * random.uniform() * radius


class Look:
    """The worst point of a search, and how many points it has looked at."""

    def __init__(self, evaluate):
        self.evaluate = evaluate
        self.loss, self.wrong, self.u, self.turns = -np.inf, False, None, 0

    def __call__(self, u):
        value, gradient, loss, self.wrong = self.evaluate(u)
        self.turns += 1
        if self.wrong or loss > self.loss:
            self.loss, self.u = loss, u
        return value, gradient


def pgd(look, u, radius, steps, relative_step):
    for _ in range(steps + 1):
        _, gradient = look(u)
        if look.wrong:
            return
        u = project(u + relative_step * radius * unit(gradient), radius)


def auto_pgd(look, u, radius, steps, marks):
    """Algorithm 1 of Croce and Hein (2020), with its sums and maxima written out.

    A point goes back to the best one where the conditions look at it, as in the
    authors' own program; on paper it is the next one, computed for nothing.

    Args:
        look: maps a point to its value and gradient; `look.wrong` ends the search.
        u: the start.
        radius: of the ball.
        steps: N_iter.
        marks: the checkpoints W, 0 first.

    Returns:
        The points that it looked at, and the length of the step from each.
    """
    seen, values, gradients, lengths, points = [], [], [], [], []
    length = 2 * radius
    for k in range(steps + 1):
        value, gradient = look(u)
        seen, values, gradients = [*seen, u], [*values, value], [*gradients, gradient]
        lengths.append(length)
        if look.wrong:
            break
        if k in marks[1:]:
            last = marks[marks.index(k) - 1]
            rises = sum(values[i + 1] > values[i] for i in range(last, k))
            same_best = max(values[: last + 1]) == max(values)
            if rises < 0.75 * (k - last) or (lengths[last] == length and same_best):
                length /= 2
                best = int(np.argmax(values))
                u, gradient = seen[best], gradients[best]
        ahead = project(u + length * unit(gradient), radius)
        moved = ahead if k == 0 else u + 0.75 * (ahead - u) + 0.25 * (u - points[-1])
        points.append(u)
        u = project(moved, radius)
    return seen, lengths


def attack(clean, index, radii, runs, search, dim=DIM):
    """The documented result of one example: loss, success, u at each radius; turns.

    Args:
        clean: cross-entropy of the image, and whether it is misclassified.
        index: its number.
        radii: ascending.
        runs: searches in each ball.
        search: (start, radius, run) -> Look.
        dim: number of latent dimensions.
    """
    loss, wrong = clean
    found = [(loss, True, np.zeros(dim))] * len(radii) if wrong else []
    best, turns = (-np.inf, False, None), 0
    for radius in radii[len(found) :]:
        for run in range(runs):
            if best[1]:
                break
            look = search(start(0, index, run, radius, dim), radius, run)
            turns += look.turns
            if look.wrong or look.loss > best[0]:
                best = look.loss, look.wrong, look.u
        found.append(best)
    return (*zip(*found, strict=True), turns)


class Latents:
    """A set whose image is the latent itself, to see where it is."""

    radius = None

    def __init__(self, dim=4):
        self.latent_dim, self.image_shape = dim, (dim,)

    def condition(self, x):
        shape = (tf.shape(x)[0], self.latent_dim)
        return Conditioned(tf.zeros(shape), tf.ones(shape), ())

    def decode(self, conditioned, u):
        return tf.ensure_shape(u, (None, self.latent_dim))

    def require_radius(self, radius):
        return radius
