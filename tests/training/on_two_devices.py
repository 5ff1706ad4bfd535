"""Trains on two devices; test_distribution.py starts it.

A process of its own: the devices have to be there before TensorFlow starts. Writes a
pickle of {case: results}.
"""

import pickle
import sys

import keras
import numpy as np
import tensorflow as tf

from tests import halves


def train(strategy, case):
    model = halves.model(case)
    history = halves.keras_fit(model, case)
    values = [strategy.experimental_local_results(v.value) for v in model.weights]
    return {
        "history": history,
        "weights": {v.path: v.numpy() for v in model.weights},
        "apart": max(np.ptp([c.numpy() for c in v], axis=0).max() for v in values),
    }


def few_examples():
    # The last of 19 examples is one for two replicas.
    model = halves.model("plain")
    model.fit(halves.data("plain").unbatch().batch(18), verbose=0)


def refused(accumulation=None, **options):
    def optimizer():
        return keras.optimizers.SGD(gradient_accumulation_steps=accumulation)

    return lambda: halves.model("mnist_fc").compile(optimizer(), **options)


REFUSED = (
    refused(jit_compile=True),
    refused(steps_per_execution=2),
    refused(accumulation=2),
)


def error_of(case):
    try:
        case()
    except ValueError as error:
        return str(error)


def main(path):
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, devices)
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    with strategy.scope():
        results = {
            case: train(strategy, case) for case in halves.SETS + halves.CLASSIFIERS
        }
        results["errors"] = [error_of(case) for case in (few_examples, *REFUSED)]
    with open(path, "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main(sys.argv[1])
