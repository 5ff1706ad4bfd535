"""Data, classifiers and attacks whose evaluation can be worked out by hand."""

import itertools

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from lps_tf.datasets.base import PairData
from lps_tf.robustness import evaluate_robustness
from lps_tf.sets.protocol import Conditioned

CLASSES = 3


@keras.saving.register_keras_serializable("tests")
class Pixels(keras.layers.Layer):
    """Answers what the image itself says: its channels are the classes' logits.

    Of images of one pixel it is a classifier, of others a segmenter.
    """

    def __init__(self, segments=False, scale=10.0):
        super().__init__()
        self.segments = segments
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.scale.assign(scale)

    def call(self, x, training=False):
        return self.scale * (x if self.segments else x[:, 0, 0])


def data_of(x, y, groups=None, batch=2, **kwargs):
    """Test data of arrays: images, labels and, by name, groups (n, draws, h, w, c)."""
    pairs = ("train_pairs", "val_pairs", "test_pairs")
    none = dict.fromkeys((*pairs, "train", "val", "train_perturbed", "test_groups"))
    dataset = tf.data.Dataset.from_tensor_slices
    groups = {k: dataset((v, y)).batch(batch) for k, v in (groups or {}).items()}
    test = dataset((x, y)).batch(batch)
    none |= {"name": "made by hand", "image_shape": x.shape[1:], "num_classes": CLASSES}
    return PairData(**{**none, "test": test, **groups, **kwargs})


def says(*answers):
    """Images of one pixel, each of which is a list of logits / 10."""
    return np.array(answers, np.float32).reshape(len(answers), 1, 1, CLASSES)


def evaluate(*args, **kwargs):
    return evaluate_robustness(*args, verbose=False, **kwargs)


def label_maps():
    """Groups of label maps with an answer each: (n, draws, h, w, c) and (n, h, w)."""
    random = np.random.RandomState(0)
    y = random.choice(3, size=(5, 4, 6), p=[0.7, 0.2, 0.1])
    logits = 0.4 * random.rand(5, 3, 4, 6, 3) + 0.3 * np.eye(3)[y][:, None]
    return logits.astype(np.float32), y


def eleven_images():
    """Images of one pixel, their classes, and two versions of each."""
    random = np.random.RandomState(0)
    x = random.rand(11, 1, 1, 3).astype(np.float32)
    groups = {"test_groups": random.rand(11, 2, 1, 1, 3).astype(np.float32)}
    return x, np.arange(11) % 3, groups


class Shifts:
    """A set whose latents are added to the channels of every pixel."""

    def condition(self, x):
        zeros = tf.zeros((tf.shape(x)[0], CLASSES))
        return Conditioned(zeros, zeros + 1, x)

    def decode(self, conditioned, u):
        return tf.clip_by_value(conditioned.features + u[:, None, None], 0, 1)

    def digest(self):
        return "shifts"


class Remembers:
    """Stands in for an attack; remembers what it is given, and may break off.

    As real ones do, it reads ahead: three batches are taken in before the first one's
    result comes out.
    """

    perturbation_set = Shifts()

    def __init__(self, radius=1.0, breaks_at=None):
        self.radius = radius
        self._breaks_at, self._seen = [breaks_at], []

    def stream(self, classifier, batches, radii, ignore_class=None):
        ready = iter(batches)
        waiting = list(itertools.islice(ready, 3))
        while waiting:
            index, x, _ = waiting.pop(0)
            if self._breaks_at[0] in index:
                raise KeyboardInterrupt
            self._seen.extend(index)
            waiting += itertools.islice(ready, 1)
            loss = np.outer(radii, index + np.mean(x, (1, 2, 3))).astype(np.float32)
            u = np.zeros((*loss.shape, CLASSES), np.float32)
            by = np.where(loss > 4, "fake", "")
            yield index, lps.AttackResult(loss, loss > 4, u, by)

    @property
    def seen(self):
        return [int(i) for i in self._seen]
