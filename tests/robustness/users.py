"""What users pass, in small: data in every form, and models that take no time."""

import keras
import numpy as np
import tensorflow as tf

import lps_tf as lps
from tests.robustness.pixel_ball import PixelBall, images, linear

X = images()
Y = np.arange(12) % 3
MAPS = np.random.RandomState(1).randint(0, 3, (12, 4, 4))


def attack(**options):
    return lps.LatentPGD(PixelBall(), **{"steps": 3, **options})


def shift(amount):
    """A perturbation without random numbers."""
    return lambda classifier, x, y: x + amount


def robust(classifier=None, perturbation=None, compile_options=None, **options):
    """A compiled model; without a graph, which takes longer to trace than to run."""
    model = lps.RobustClassifier(classifier or linear(), perturbation, **options)
    optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, **{"run_eagerly": True, **(compile_options or {})})
    return model


GRAPH = {"run_eagerly": False}


def fitted(model, *data, **options):
    """The last values of the logs of a short training."""
    options = {"verbose": 0, "batch_size": 4, "shuffle": False, **options}
    if not isinstance(data[0], np.ndarray):
        del options["batch_size"]
    history = model.fit(*data, **options).history
    return {name: float(values[-1]) for name, values in history.items()}


def evaluated(model, *data, **options):
    return floats(model.evaluate(*data, verbose=0, return_dict=True, **options))


def floats(logs):
    """Logs as numbers: run eagerly, some versions of Keras leave tensors."""
    return {name: float(value) for name, value in logs.items()}


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(4)


class Batches(keras.utils.PyDataset):
    """The arrays as a PyDataset."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts[0]) // 4

    def __getitem__(self, index):
        return tuple(part[4 * index : 4 * index + 4] for part in self.parts)


def generator(*parts):
    data = Batches(*parts)
    return (data[i] for i in range(len(data)))


def without_signature(*parts):
    """A data set of which TensorFlow knows no shape."""
    types = tuple(tf.as_dtype(part.dtype) for part in parts)
    return tf.data.Dataset.from_generator(lambda: generator(*parts), output_types=types)


FORMS = {
    "data set": dataset,
    "without signature": without_signature,
    "PyDataset": Batches,
    "generator": generator,
}


def cross_entropy(logits, y):
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(logs, np.maximum(y, 0)[..., None], -1)[..., 0]


class TwoLogits(keras.Model):
    """What a model of one logit stands for."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x, training=False):
        z = self.model(x)
        return tf.concat([tf.zeros_like(z), z], -1)


class Subclassed(keras.Model):
    """A model whose shapes nobody knows before it is called."""

    def __init__(self):
        super().__init__()
        self.model = linear()

    def call(self, x, training=False):
        return self.model(x)
